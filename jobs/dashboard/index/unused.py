"""Index files whose batches are gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from jobs.batch_folder.folder import Folder
from jobs.errors import BatchError

KEEP = 86_400.0
"""Seconds for which a file is kept after its last change: a dashboard of another folder may have it open."""

_ENDINGS = (".sqlite", ".sqlite-wal", ".sqlite-shm")


def remove_unused(directory: Path, output_dir: Path, now: float) -> None:
    """Remove the files of batches that have no folder any more; what cannot be read or removed stays."""
    with suppress(OSError):
        files = [path for path in directory.iterdir() if path.name.endswith(_ENDINGS)]
        changed = {path.stem for path in files if now - path.stat().st_mtime < KEEP}
        if old := [path for path in files if path.stem not in changed]:
            known = set(_batch_ids(output_dir))
            for path in old:
                if path.stem not in known:
                    path.unlink(missing_ok=True)


def _batch_ids(output_dir: Path) -> Iterator[str]:
    """The random ids of all batches; OSError when the directory cannot be read."""
    for path in output_dir.iterdir():
        with suppress(BatchError):
            if batch_id := Folder(output_dir, path.name).batch_id():
                yield batch_id
