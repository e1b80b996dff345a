"""What the user wants to be enqueued."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.budget import UNCHANGED, Budget
from jobs.errors import InputError
from jobs.expansion.expansion import Expansion
from jobs.names import name_problem
from jobs.prompts_file.formats import FORMATS


@dataclass(frozen=True)
class Order:
    """What is to be enqueued: a file or "-", what its rows do not say, and what makes many rows of one.

    `append`: also to a batch that was enqueued from another file; `replace`: a row replaces one of the same id that did
    not succeed. `model_check`: rows are checked against their models; `allow_unknown`: keys that a model does not have
    are let through. `copy_inputs`: the files that rows name are copied into the batch's folder; `keep_uploads`: what
    workers upload is not deleted when the batch ends.
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
    model_check: bool = True
    allow_unknown: bool = False
    copy_inputs: bool = False
    keep_uploads: bool = False

    @property
    def path(self) -> str | None:
        """Where the file lies, whatever the working directory is; None for standard input."""
        return None if self.source == "-" else str(Path(self.source).absolute())

    @property
    def file_name(self) -> str:
        """The file as messages name it."""
        return "standard input" if self.source == "-" else self.source

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
