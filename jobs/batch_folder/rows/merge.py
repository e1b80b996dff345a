"""Segments and records → the rows of a batch, in file order; those of one shard are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import prompt_at, read_lines
from jobs.batch_folder.rows.row import Row, build_row, digest_of, digest_of_line, is_current
from jobs.batch_folder.rows.segment import read_segment, write_segment
from jobs.errors import ForeignFolder
from jobs.wire import SHARD_SIZE


def merge_rows(folder: Folder, *, with_html: bool = False, strict: bool = False) -> Iterator[Row]:
    """Yield the row of each prompt, by its segment while that holds (`strict`: see `is_current`), else by its record.

    With HTML, segments that lacked something are written again. StorageError when a record cannot be read.
    """
    if not folder.prompts.exists():
        return
    batch_id = None
    with suppress(ForeignFolder):
        batch_id = folder.batch_id()
    with folder.opened(None) as directory:
        merge = _Merge(folder, directory, batch_id, with_html, strict)
        for index, line in enumerate(read_lines(folder)):
            yield merge.row(index, line)
        merge.end_shard()


@dataclass
class _Merge:
    """A merge; a folder without a batch's id has no segments."""

    folder: Folder
    directory: int
    batch_id: str | None
    with_html: bool
    strict: bool
    _number: int = -1
    _known: dict[int, Row] = field(default_factory=dict)
    _rows: list[Row] = field(default_factory=list)
    _is_whole: bool = True

    def row(self, index: int, line: bytes) -> Row:
        """The row of the next line of the copy."""
        if index // SHARD_SIZE != self._number:
            self.end_shard()
            self._begin_shard(index // SHARD_SIZE)
        digest, row = digest_of_line(line), self._known.get(index)
        if row is None or not self._holds(row, index, line, digest):
            row = build_row(
                self.folder, self.directory, prompt_at(self.folder, index, line), digest, with_html=self.with_html
            )
            self._is_whole &= not row.marks
        if row.marks:
            self._rows.append(row)
        return row

    def _begin_shard(self, number: int) -> None:
        self._number, self._rows, self._is_whole = number, [], True
        self._known = read_segment(self.directory, self.batch_id, number) if self.batch_id else {}

    def end_shard(self) -> None:
        """Write the segment of the shard if it lacked something."""
        if self.batch_id and self.with_html and not self._is_whole:
            with suppress(OSError):
                write_segment(self.directory, self.batch_id, self._number, self._rows)

    def _holds(self, row: Row, index: int, line: bytes, digest: str) -> bool:
        return (
            (row.digest == digest or row.digest == digest_of(prompt_at(self.folder, index, line)))
            and (row.html is not None or not self.with_html)
            and is_current(row, self.directory, strict=self.strict)
        )
