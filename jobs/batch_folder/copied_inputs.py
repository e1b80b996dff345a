"""Finds files that are no longer where they were enqueued, but of which the batch's folder has a copy."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from pathlib import Path

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_lines
from jobs.input_files.copies import is_copied
from jobs.input_files.reference import FileReference, references_in


class CopiedInputs:
    """The files of a batch by the paths that they had; read when one is first asked for."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def find(self, path: Path) -> FileReference | None:
        """The file that lay there, if it was copied. StorageError."""
        file = self._by_path.get(_composed(str(path)))
        return file if file and is_copied(self._folder.path, file) else None

    @cached_property
    def _by_path(self) -> dict[str, FileReference]:
        return {_composed(file.path): file for line in read_lines(self._folder) for file in references_in(line)}


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)
