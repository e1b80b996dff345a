"""Recovers a batch that Redis lost from its folder: records are counted before anything is queued.

So no prompt with a record is paid for again, and the budget continues from what was spent before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import RETRIED, Folder
from jobs.batch_folder.name_hashes import NameHashes
from jobs.batch_folder.prompts_copy import kept_row, read_lines
from jobs.errors import DamagedRecord
from jobs.names import OWN_NAMES
from jobs.state.batches import Batches, Spent
from jobs.wire import Batch, Result

CHUNK = 500
"""Records that are read before they are counted."""


def spent_on_earlier_tries(folder: Folder) -> Spent:
    """What the records cost that `retry` moved aside: nothing else counts them; StorageError."""
    predictions = cost = unpriced = 0
    for name in sorted(_names(folder, RETRIED)):
        with suppress(DamagedRecord):
            if record := folder.read_record(f"{RETRIED}/{name}"):
                spent = Spent.of(record)
                predictions, cost = predictions + spent.predictions, cost + (spent.cost or 0)
                unpriced += spent.unpriced
    return Spent(predictions, cost, unpriced=unpriced)


async def settle_recorded(batches: Batches, batch: Batch, folder: Folder) -> None:
    """Count every record that is not counted, except the last prompt's: the worker that settles it ends the batch.

    StorageError when a record cannot be read.
    """
    settled = await batches.settled(batch.name)
    left = batch.total - settled.count(range(batch.total))
    found = islice(_records(folder, settled.__contains__), max(left - 1, 0))
    while chunk := await asyncio.to_thread(list, islice(found, CHUNK)):
        await batches.settle_all(batch.name, batch.id, chunk)


def _records(folder: Folder, settled: Callable[[int], bool]) -> Iterator[tuple[int, Result]]:
    """Yield index and record of each unsettled prompt that has one; damaged ones are left to workers."""
    there = NameHashes()
    for place, name in enumerate(_names(folder)):
        if not name.startswith(".") and not OWN_NAMES.fullmatch(name):
            there.add(name, place)
    for index, line in enumerate(read_lines(folder) if there else ()):
        if not settled(index) and (row := kept_row(folder, index, line)).id in there:
            with suppress(DamagedRecord):
                if record := folder.read_record(row.id):
                    yield index, record


def _names(folder: Folder, below: str = ".") -> Iterator[str]:
    with storing(folder.path), suppress(FileNotFoundError), os.scandir(folder.path / below) as entries:
        for entry in entries:  # there may be a million
            yield entry.name
