from __future__ import annotations

import pytest

from jobs.batch_folder.folder import Folder
from jobs.config import Config


@pytest.fixture
def folder(config: Config) -> Folder:
    """The folder of batch `night`."""
    return Folder(config.output_dir, "night")
