"""The segments of a batch, compared with the records: what the end of the batch would believe must be true."""

from __future__ import annotations

import os
from contextlib import suppress

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.rows.row import Row, digest_of, is_current
from jobs.batch_folder.rows.segment import read_segment, segment_path
from jobs.errors import StorageError
from jobs.wire import Prompt


class Segments:
    """The segments, read one after the other; one that is missing, cut or another's is no fault."""

    def __init__(self, folder: Folder) -> None:
        self._batch_id: str | None = None
        self._directory: int | None = None
        self._number = -1
        self._rows: dict[int, Row] = {}
        with suppress(StorageError, OSError):
            self._batch_id = folder.batch_id()
            self._directory = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)

    def fault(self, prompt: Prompt, line: str) -> str | None:
        """The path of the segment that has another line of a prompt than its record, "" being none, and holds."""
        if self._directory is None or not self._batch_id:
            return None
        if prompt.shard != self._number:
            self._number, self._rows = prompt.shard, read_segment(self._directory, self._batch_id, prompt.shard)
        row = self._rows.get(prompt.index)
        if row is None or row.line == line or row.digest != digest_of(prompt):
            return None
        return segment_path(prompt.shard) if is_current(row, self._directory, strict=False) else None

    def close(self) -> None:
        """Close the folder."""
        if self._directory is not None:
            os.close(self._directory)
