"""What the user wants to be enqueued."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jobs.budget import UNCHANGED, Budget
from jobs.errors import InputError
from jobs.expansion.expansion import Expansion
from jobs.names import name_problem
from jobs.prompts_file.formats import FORMATS, Record


class RowSource(Protocol):
    """Rows that come from no file; each has one file as its input `key`, if that is given."""

    @property
    def key(self) -> str | None:
        """The input that each row's file is."""

    @property
    def unit(self) -> str:
        """What messages count."""

    @property
    def title(self) -> str:
        """What messages call it."""

    @property
    def origin(self) -> str:
        """What the batch keeps of where its rows came from."""

    @property
    def batch(self) -> str:
        """What a batch of it is called."""

    def records(self, key: str, output_dir: Path, notes: list[str], /) -> Iterator[Record]:
        """Yield the rows; what is left out is noted. InputError, StorageError."""


@dataclass(frozen=True)
class Order:
    """What is to be enqueued: a file, "-" or other rows, what these rows do not say, and what makes many rows of one.

    `limit`: only so many rows, the first ones, or with `pick` some at random by that seed.
    `append`: also to a batch that was enqueued from another file; `replace`: a row replaces one of the same id that did
    not succeed. `model_check`: rows are checked against their models; `allow_unknown`: keys that a model does not have
    are let through, `allow_literal_secrets`: secrets that stand in the file are, too. `copy_inputs`: the files that
    rows name are copied into the batch's folder; `keep_uploads`: what workers upload is not deleted when the batch
    ends.
    """

    source: str | RowSource
    name: str | None = None
    model: str | None = None
    input: dict[str, Any] = field(default_factory=dict)
    expansion: Expansion | None = None
    limit: int | None = None
    pick: int | None = None
    priority: float = 1.0
    budget: Budget = UNCHANGED
    append: bool = False
    replace: bool = False
    model_check: bool = True
    allow_unknown: bool = False
    allow_literal_secrets: bool = False
    copy_inputs: bool = False
    keep_uploads: bool = False

    @property
    def path(self) -> str | None:
        """Where the rows come from, whatever the working directory is; None for standard input."""
        if not isinstance(self.source, str):
            return self.source.origin
        return None if self.source == "-" else str(Path(self.source).absolute())

    @property
    def file_name(self) -> str:
        """The file, or other rows, as messages name it."""
        if not isinstance(self.source, str):
            return self.source.title
        return "standard input" if self.source == "-" else self.source

    @property
    def batch(self) -> str:
        """The batch's name: as given, or after the file. InputError."""
        name = self._default_name() if self.name is None else self.name
        if problem := name_problem(name, 64):
            raise InputError(f"the batch's name {problem}; give another --name")
        return name

    @property
    def sets(self) -> frozenset[str]:
        """The inputs that are the same for all rows, or set in each."""
        return frozenset(self.input) | (self.expansion.sets if self.expansion else frozenset())

    @property
    def models(self) -> list[str]:
        """The models that are set in each row."""
        each = self.expansion.matrix.each if self.expansion else ()
        return [model for values in each if values.key == "model" for model, _ in values.values()]

    @property
    def unit(self) -> str:
        """What messages count."""
        return "line" if isinstance(self.source, str) else self.source.unit

    def check(self) -> None:
        """InputError for what is wrong before any row is read."""
        if self.limit is not None and self.limit < 1:
            raise InputError("--limit must be at least 1")
        if not 0.001 <= self.priority <= 1000:
            raise InputError("--priority must be between 0.001 and 1000")
        self.budget.check()

    def _default_name(self) -> str:
        if not isinstance(self.source, str):
            return _as_name(self.source.batch)
        if self.source == "-":
            raise InputError("standard input needs a --name")
        name = Path(self.source).name
        suffix = next((suffix for suffix in FORMATS if name.lower().endswith(suffix)), "")
        return _as_name(name[: -len(suffix) or None])


def _as_name(text: str) -> str:
    allowed = (char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in text)
    return "".join(allowed).lstrip(".-")[:64]
