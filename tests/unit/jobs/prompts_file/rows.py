"""The rows of a prompts file, as a producer reads them."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

from jobs.expansion.expansion import Expansion
from jobs.expansion.matrix import build_matrix
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts


def read(path: Path, **columns: str) -> list[Any]:
    """Each row as JSON, or what is wrong with it; `columns` are mapped to inputs."""
    expansion = Expansion(build_matrix([], None, None), columns=columns) if columns else None
    found = chain.from_iterable(read_prompts(str(path), Defaults("o/n"), Ids(), expansion=expansion))
    return [json.loads(item.text) if isinstance(item, Row) else str(item) for item in found]
