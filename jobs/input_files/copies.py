"""Copies of local files in a batch's folder, for workers that do not see the files themselves."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from jobs.input_files.reference import FileReference

COPIES = ".inputs"
"""The folder of the copies, in a batch's folder: no prompt's folder has such a name."""

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,16}")


def copied_path(folder: Path, reference: FileReference) -> Path:
    """Where in a batch's folder the copy of a file is, if there is one: it is named after its content."""
    extension = PurePath(reference.path).suffix
    return folder / COPIES / f"{reference.sha256}{extension if _EXTENSION.fullmatch(extension) else ''}"


def is_copied(folder: Path, reference: FileReference) -> bool:
    """Whether the copy is there, and whole."""
    try:
        return copied_path(folder, reference).stat().st_size == reference.size
    except OSError:
        return False
