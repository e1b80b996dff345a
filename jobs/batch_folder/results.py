"""Records → results.jsonl, errors.jsonl and totals: one result in memory, however long the batch is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from jobs.batch_folder.atomic_files import replacing
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.batch_folder.reviews import Review, last_reviews
from jobs.errors import DamagedRecord
from jobs.prices.money import MICRO, dollars
from jobs.secret_inputs import shown_input
from jobs.wire import Failure, Prompt, Result

Row = tuple[Prompt, Result | None]
"""A prompt with its result, None when it has no record."""

REVIEW = "review"
"""The key of a line that its prompt's record has not."""

_LINE_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""JSON leaves these as they are, but `str.splitlines` and many an editor break a line at them."""


@dataclass(slots=True)
class Totals:
    """The counts of a batch; `missing` prompts have no record yet, `bytes` is the size of all `files`.

    `unsaved` files stayed at their URLs, `empty` prompts succeeded with no output.

    `micro_dollars` is what the prompts with a known price have cost, None when there is none; `unpriced` have none.
    """

    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    missing: int = 0
    files: int = 0
    bytes: int = 0
    unsaved: int = 0
    empty: int = 0
    micro_dollars: int | None = None
    unpriced: int = 0

    def count(self, result: Result | None) -> None:
        """Add one prompt's result, None when it has no record."""
        outcome = result.status if result else "missing"
        setattr(self, outcome, getattr(self, outcome) + 1)
        if result:
            self.files += len(result.files)
            self.bytes += sum(file.bytes for file in result.files)
            self.unsaved += len(result.unsaved)
            self.empty += result.empty
            self.unpriced += result.is_unpriced
        if result and result.cost is not None:
            self.micro_dollars = (self.micro_dollars or 0) + round(result.cost * MICRO)

    @property
    def cost(self) -> float | None:
        """Dollars of all results, without what earlier tries of retried prompts took; None when no price is known."""
        return None if self.micro_dollars is None else dollars(self.micro_dollars)

    @property
    def cost_is_partial(self) -> bool:
        """Whether the cost of some results is not known."""
        return self.micro_dollars is not None and self.unpriced > 0

    @property
    def prompts(self) -> int:
        """How many prompts the batch has."""
        return self.succeeded + self.failed + self.canceled + self.missing


def records(folder: Folder) -> Iterator[Row]:
    """Yield each prompt in file order with its result."""
    for prompt in read_copy(folder):
        try:
            yield prompt, folder.read_record(prompt.id)
        except DamagedRecord as error:
            yield prompt, damaged_result(prompt, error)


def damaged_result(prompt: Prompt, error: DamagedRecord) -> Result:
    """The result of a prompt whose record is damaged: a failure that says so."""
    failure = Failure(kind="internal", message=str(error))
    shown = shown_input(prompt.input)
    return Result(id=prompt.id, index=prompt.index, status="failed", model=prompt.model, input=shown, error=failure)


def read_results(folder: Folder, *, failed: bool = False) -> Iterator[Result]:
    """Yield the results so far, in file order; `failed`: only those that did not succeed."""
    for _, result in records(folder):
        if result and not (failed and result.status == "succeeded"):
            yield result


def result_line(result: Result, review: Review | None = None) -> str:
    """One line of results.jsonl without its end: the keys in the model's order, text left readable.

    The key `review` is there only if somebody has reviewed the result.
    """
    values = result.model_dump()
    if review:
        values[REVIEW] = review.model_dump(exclude={"id"})
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))  # pydantic stops at depth 255
    return text.translate(_LINE_BREAKS)


def write_results(folder: Folder, *, fsync: bool) -> Totals:
    """Write results.jsonl and errors.jsonl from the records; each replaces the former file at once.

    Raises StorageError when a record cannot be read or a file cannot be written.
    """
    with writing_results(folder, fsync=fsync) as rows:
        return _count(result for _, result in rows)


@contextmanager
def writing_results(folder: Folder, *, fsync: bool) -> Iterator[Iterator[Row]]:
    """Yield the records once and write each to the files, which replace the former ones when the block ends."""
    with replacing(folder.results, fsync=fsync) as everything, replacing(folder.errors, fsync=fsync) as errors:
        yield _write_rows(folder, everything, errors)


def count_results(folder: Folder) -> Totals:
    """Count the records without writing anything."""
    return _count(result for _, result in records(folder))


def _write_rows(folder: Folder, everything: BinaryIO, errors: BinaryIO) -> Iterator[Row]:
    reviews = last_reviews(folder)
    for prompt, result in records(folder):
        if result:
            line = result_line(result, reviews.get(result.id)).encode() + b"\n"
            everything.write(line)
            if result.status != "succeeded":
                errors.write(line)
        yield prompt, result


def _count(results: Iterable[Result | None]) -> Totals:
    counted = Totals()
    for result in results:
        counted.count(result)
    return counted
