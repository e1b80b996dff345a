"""Folders to run in, removed when the program ends."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@contextmanager
def fresh(*, big: bool = False) -> Iterator[Path]:
    """An empty folder; only a big one is removed with the block, the others when the program ends.

    For minutes after many files were removed, ext4 takes up to a millisecond to make a new one (`recently_deleted`):
    the next contender would pay for it.
    """
    folder = Path(tempfile.mkdtemp(dir=_ground()))
    try:
        yield folder
    finally:
        if big:
            shutil.rmtree(folder)


@cache
def _ground() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
