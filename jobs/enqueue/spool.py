"""A prompts file, checked as a whole: its rows wait on disk, their ids and fingerprints in memory."""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import BinaryIO

from jobs.batch_folder.atomic_files import BLOCK, PART, flush, storing, temporary
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import CopiedRow, model_of
from jobs.budget import Budget
from jobs.catalog.row_check import CheckedRow
from jobs.enqueue.checked_rows import CheckedRows
from jobs.enqueue.estimate import Estimator
from jobs.enqueue.order import Order
from jobs.enqueue.random_rows import RandomRows
from jobs.prompts_file.reader import Ids

PROGRESS_EVERY = 10_000
"""Rows between two reports of progress: a tenth of a second."""

ABANDONED = 86_400
"""Seconds after which a spool is left over: nobody can still be writing it."""


Progress = Callable[[str], None]
"""Receives texts that say how far something has got."""


def ignore_progress(_: str) -> None:
    """Report progress to nobody."""


class Spool:
    """The rows that were taken from a prompts file, in a file of their own."""

    def __init__(self, order: Order, path: Path) -> None:
        self.order, self.path = order, path
        self.ids = Ids()
        self.price_by(Estimator())
        self._fingerprints, self._written, self._starts = array("q"), array("q"), array("Q")
        self._picked: list[int] | None = None

    def __len__(self) -> int:
        return len(self._fingerprints)

    def price_by(self, estimator: Estimator) -> None:
        """Estimate the rows, which are still to come, by these prices."""
        self.estimator, self.estimate = estimator, estimator.begin()

    async def fill(self, rows: CheckedRows, progress: Progress = ignore_progress, *, fsync: bool) -> None:
        """Read the whole file and keep what the limit lets through; PromptsError, InputError, StorageError."""
        self.ids = rows.ids
        limit, read = self.order.limit, 0
        picks = None if limit is None or self.order.pick is None else RandomRows(limit, self.order.pick)
        with storing(self.path), self.path.open("xb", BLOCK) as file:
            progress(f"checking {self.order.file_name}: {read:,} rows")
            async for chunk in rows.chunks():
                before, read = read, read + len(chunk)
                if before // PROGRESS_EVERY < read // PROGRESS_EVERY or (chunk and chunk[0].row.names_files):
                    progress(f"checking {self.order.file_name}: {read:,} rows")
                await asyncio.to_thread(self._add, chunk, file, picks)
            await asyncio.to_thread(flush, file, fsync=fsync and picks is None)
        if picks:
            await asyncio.to_thread(self._keep, picks.places, fsync=fsync)
        self.demand_prices(self.order.budget)

    def _add(self, chunk: list[CheckedRow], file: BinaryIO, picks: RandomRows | None) -> None:
        if picks:
            for place, (row, _) in enumerate(chunk, len(self)):
                picks.show(row.id, place)
        elif self.order.limit is not None:
            chunk = chunk[: max(self.order.limit - len(self), 0)]
        texts = [row.text for row, _ in chunk]
        ends = accumulate([len(text) + 1 for text in texts], initial=file.tell())
        self._starts.extend(islice(ends, len(texts)))
        file.write(b"\n".join([*texts, b""]))
        self._fingerprints.extend(map(hash, texts))
        self._written.extend([hash(written) for _, written in chunk])
        for row, _ in chunk:
            self.estimate.add(row.model, row.line, row.text)

    def _keep(self, places: list[int], *, fsync: bool) -> None:
        """Keep only the rows at these places; StorageError."""
        starts, end = self._starts, 0
        self._picked, self._starts = places, array("Q")
        self._fingerprints = array("q", (self._fingerprints[place] for place in places))
        self._written = array("q", (self._written[place] for place in places))
        self.estimate = self.estimator.begin()
        with storing(self.path), self.path.open("r+b") as file:
            for index, place in enumerate(places):
                file.seek(starts[place])
                line = file.readline()
                self._starts.append(end)
                file.seek(end)
                end += file.write(line)
                self.estimate.add(model_of(line[:-1]), self.line(index), line[:-1])
            file.truncate(end)
            flush(file, fsync=fsync)

    def line(self, place: int) -> int:
        """The line of the file that has the row at a place."""
        return self.ids.line(place if self._picked is None else self._picked[place])

    def demand_prices(self, budget: Budget) -> None:
        """InputError when the budget is in dollars and a model of the rows has no price."""
        self.estimate.demand_prices(budget, self.order.file_name)

    def texts(self) -> Iterator[bytes]:
        """Yield each row as JSON."""
        with self.path.open("rb") as lines:
            for line in lines:
                yield line[:-1]

    def text(self, place: int) -> bytes:
        """The row at a place as JSON."""
        with self.path.open("rb") as lines:
            lines.seek(self._starts[place])
            return lines.readline()[:-1]

    def is_same_line(self, place: int, line: bytes) -> bool:
        """Whether a line of the batch's copy equals the row at the same place of the file."""
        return place < len(self) and self._has(place, hash(line[:-1]))

    def find(self, row: CopiedRow) -> int | None:
        """The place in the file of a row of the batch, None when it is not among those that were taken."""
        place = self.ids.find(row.id)
        if place is not None and self._picked is not None:
            index = bisect_left(self._picked, place)
            return index if self._picked[index : index + 1] == [place] else None
        return None if place is None or place >= len(self) else place

    def is_same_row(self, place: int, row: CopiedRow) -> bool:
        """Whether a row of the file says the same as one of the batch: id, model and input.

        A batch that was not checked has the cells of tables as they were guessed, and versions that are not pinned.
        """
        return self._has(place, hash(row.text))

    def is_kept(self, place: int, row: CopiedRow) -> bool:
        """Whether the batch has a row just as it would be kept now."""
        return self._fingerprints[place] == hash(row.text)

    def _has(self, place: int, fingerprint: int) -> bool:
        return fingerprint in (self._fingerprints[place], self._written[place])


@contextmanager
def spooling(order: Order, folder: Folder) -> Iterator[Spool]:
    """Yield an empty spool beside the batch's folder, so that it can become its copy; removed in the end."""
    with temporary(folder.output_dir, folder.batch) as path:
        with storing(folder.output_dir):
            _remove_abandoned(folder.output_dir)
        yield Spool(order, path)


def _remove_abandoned(directory: Path) -> None:
    """A killed producer leaves its spool behind."""
    for path in directory.glob(f".*{PART}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
