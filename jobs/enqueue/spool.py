"""A prompts file, checked as a whole: its rows wait on disk, their ids and fingerprints in memory."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.batch_folder.atomic_files import BLOCK, PART, flush, storing, temporary
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import CopiedRow
from jobs.budget import UNCHANGED, Budget
from jobs.config import Config
from jobs.enqueue.estimate import Estimator
from jobs.errors import InputError, Problem, PromptsError
from jobs.expansion.expansion import Expansion
from jobs.names import name_problem
from jobs.prompts_file.formats import FORMATS
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts

SHOWN = 20
"""Problems that are shown; the rest are counted."""

TOLD_EVERY = 10_000
"""Rows between two words of how far the reading is: a tenth of a second."""

ABANDONED = 86_400
"""Seconds after which nobody can be writing a spool any more."""


Tell = Callable[[str], None]
"""Takes words on how far something is, that somebody may be waiting for."""


def silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Order:
    """What is to be enqueued: a file or "-", what its rows do not say, and what makes many rows of one.

    `append`: also to a batch that was begun from another file; `replace`: a row takes the place of one of the same id
    that did not succeed.
    """

    source: str
    name: str | None = None
    model: str | None = None
    input: dict[str, Any] = field(default_factory=dict)
    expansion: Expansion | None = None
    limit: int | None = None
    priority: float = 1.0
    budget: Budget = UNCHANGED
    append: bool = False
    replace: bool = False

    @property
    def path(self) -> str | None:
        """Where the file lies, whatever the working directory is; None for standard input."""
        return None if self.source == "-" else str(Path(self.source).absolute())

    @property
    def batch(self) -> str:
        """The batch's name: as given, or after the file. InputError."""
        name = _name_of(self.source) if self.name is None else self.name
        if problem := name_problem(name, 64):
            raise InputError(f"the batch's name {problem}; give another --name")
        return name

    def check(self) -> None:
        """InputError for what is wrong before any row is read."""
        if self.limit is not None and self.limit < 1:
            raise InputError("--limit must be at least 1")
        if not 0.001 <= self.priority <= 1000:
            raise InputError("--priority must be between 0.001 and 1000")
        self.budget.check()


def _name_of(source: str) -> str:
    if source == "-":
        raise InputError("standard input needs a --name")
    name = Path(source).name
    suffix = next((suffix for suffix in FORMATS if name.lower().endswith(suffix)), "")
    allowed = (char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name)
    return "".join(allowed)[: -len(suffix) or None].lstrip(".-")[:64]


def read_rows(order: Order, config: Config, ids: Ids, names: KeyNames) -> Iterator[Row]:
    """Yield the valid rows; after the last one, PromptsError if any was wrong."""
    problems: list[Problem] = []
    count = 0
    defaults = Defaults(order.model or config.model, order.input)
    for item in read_prompts(order.source, defaults, ids, names, order.expansion):
        if isinstance(item, Row):
            yield item
            continue
        count += 1
        problems += [item] if count <= SHOWN else []
    raise_problems(order, problems, count)


def raise_problems(order: Order, problems: list[Problem], count: int) -> None:
    """Raise PromptsError if there are any; `problems` are the first SHOWN ones."""
    if count:
        raise PromptsError(file_name(order), problems, count)


def file_name(order: Order) -> str:
    """The file as messages name it."""
    return "standard input" if order.source == "-" else order.source


class Spool:
    """The rows that were taken of a file, in a file of their own."""

    def __init__(self, order: Order, path: Path) -> None:
        self.order, self.path = order, path
        self.ids, self.names = Ids(), KeyNames()
        self.estimator = Estimator()
        self.estimate = self.estimator.begin()
        self._fingerprints, self._starts = array("q"), array("Q")

    def __len__(self) -> int:
        return len(self._fingerprints)

    def fill(self, config: Config, tell: Tell = silent) -> None:
        """Read the whole file and keep what the limit lets through; PromptsError, InputError, StorageError."""
        self.estimator = Estimator.load(config)
        self.estimate = self.estimator.begin()
        limit, end = self.order.limit, 0
        with storing(self.path), self.path.open("xb", BLOCK) as file:
            for number, (line, _, model, text) in enumerate(read_rows(self.order, config, self.ids, self.names)):
                if number % TOLD_EVERY == 0:
                    tell(f"checking {file_name(self.order)}: {number:,} rows")
                if limit is None or len(self) < limit:
                    self._starts.append(end)
                    end += file.write(text + b"\n")
                    self._fingerprints.append(hash(text))
                    self.estimate.add(model, line, text)
            self.demand_prices(self.order.budget)
            flush(file, fsync=config.fsync)

    def demand_prices(self, budget: Budget) -> None:
        """InputError when the budget is in dollars and a model of the rows has no price."""
        self.estimate.demand_prices(budget, file_name(self.order))

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

    def repeats(self, place: int, line: bytes) -> bool:
        """Whether a line of the batch's copy says, at the same place, what the file says."""
        return place < len(self._fingerprints) and self._fingerprints[place] == hash(line[:-1])

    def find(self, row: CopiedRow) -> int | None:
        """The place in the file of a row of the batch, None when it is not among those that were taken."""
        place = self.ids.find(row.id)
        return None if place is None or place >= len(self) else place

    def equals(self, place: int, row: CopiedRow) -> bool:
        """Whether a row of the file says the same as one of the batch: id, model and input."""
        return self._fingerprints[place] == hash(row.text)


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
