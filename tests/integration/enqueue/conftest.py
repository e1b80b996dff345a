from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config import Config
from jobs.folder import Folder


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Config:
    """A producer's: it needs no simulator."""
    return Config.load(output_dir=tmp_path / "outputs", redis_url=redis_url, model="owner/name")


@pytest.fixture
def folder(config: Config) -> Folder:
    return Folder(config.output_dir, "night")
