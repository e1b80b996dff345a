"""The rows of a batch → results.jsonl, errors.jsonl and totals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

from jobs.batch_folder.atomic_files import replacing
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.batch_folder.reviews import last_reviews
from jobs.batch_folder.rows.merge import merge_rows
from jobs.batch_folder.rows.result_line import damaged_result, reviewed_line
from jobs.batch_folder.rows.row import Row
from jobs.batch_folder.rows.totals import Totals
from jobs.errors import DamagedRecord
from jobs.wire import SHARD_SIZE, Prompt, Result


def records(folder: Folder) -> Iterator[tuple[Prompt, Result | None]]:
    """Yield each prompt in file order with its result, None when it has no record; one result is in memory."""
    for prompt in read_copy(folder):
        try:
            yield prompt, folder.read_record(prompt.id)
        except DamagedRecord as error:
            yield prompt, damaged_result(prompt, error)


def read_results(folder: Folder, *, failed: bool = False) -> Iterator[Result]:
    """Yield the results so far, in file order; `failed`: only those that did not succeed."""
    if failed:
        rows = merge_rows(folder, strict=True)
        yield from (Result.model_validate(json.loads(row.line)) for row in rows if row.line and row.is_unsuccessful)
    else:
        yield from (result for _, result in records(folder) if result)


def write_results(folder: Folder, *, fsync: bool) -> Totals:
    """Write results.jsonl and errors.jsonl as of now; each replaces the former file at once.

    Raises StorageError when a record cannot be read or a file cannot be written.
    """
    with writing_results(folder, merge_rows(folder, strict=True), fsync=fsync) as rows:
        return _count(rows)


@contextmanager
def writing_results(folder: Folder, rows: Iterable[Row], *, fsync: bool) -> Iterator[Iterator[Row]]:
    """Yield the rows once and write each to the files, which replace the former ones when the block ends."""
    with replacing(folder.results, fsync=fsync) as everything, replacing(folder.errors, fsync=fsync) as errors:
        yield _write_rows(folder, rows, everything, errors)


def count_results(folder: Folder) -> Totals:
    """Count the results without writing anything."""
    return _count(merge_rows(folder, strict=True))


def _write_rows(folder: Folder, rows: Iterable[Row], everything: BinaryIO, errors: BinaryIO) -> Iterator[Row]:
    reviews = last_reviews(folder)
    for row in rows:
        if row.line:
            review = reviews.get(row.id)
            line = (reviewed_line(row.line, review) if review else row.line).encode() + b"\n"
            everything.write(line)
            if row.is_unsuccessful:
                errors.write(line)
        yield row


def _count(rows: Iterable[Row]) -> Totals:
    counted, left = Totals(), iter(rows)
    while some := list(islice((row.counts for row in left), SHARD_SIZE)):
        counted.add(some)
    return counted
