"""The options that select prompts of a batch, or batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from jobs.cli import options
from jobs.cli.shell import candidates
from jobs.operations.batch_filter import BatchFilter, ShownState, Sort
from jobs.wire import ErrorKind

if TYPE_CHECKING:
    from jobs.operations.selection import Selection

KINDS, STATES = tuple(sorted(get_args(ErrorKind))), get_args(ShownState)
_STATES = f"{', '.join(STATES[:-1])} or {STATES[-1]}"


def _one_of(known: tuple[str, ...]) -> Callable[[list[str]], list[str]]:
    """A check that all values are among these."""

    def check(values: list[str]) -> list[str]:
        if unknown := set(values) - set(known):
            wrong = min(unknown)
            close = get_close_matches(wrong, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise typer.BadParameter(f"{wrong!r} is none of: {', '.join(known)}{hint}")
        return values

    return check


Ids = Annotated[
    list[str],
    typer.Option("--id", metavar="ID", help="Only this prompt; may be repeated.", autocompletion=candidates.prompts),
]
Models = Annotated[
    list[str],
    typer.Option(
        "--model", metavar="MODEL", help="Only this model's; may be repeated.", autocompletion=candidates.models
    ),
]
Kinds = Annotated[
    list[str],
    typer.Option("--kind", metavar="KIND", callback=_one_of(KINDS), help="Only such errors; may be repeated."),
]
Status = Annotated[Literal["failed", "canceled"] | None, typer.Option(help="Only those that ended so.")]
Message = Annotated[str, typer.Option(metavar="TEXT", help="Only those whose error says this.")]

States = Annotated[
    list[str],
    typer.Option(
        "--state", metavar="STATE", callback=_one_of(STATES), help=f"Only batches that are {_STATES}; may be repeated."
    ),
]
NamePattern = Annotated[
    str | None, typer.Option("--name", metavar="PATTERN", help="Only batches with such a name, in quotes: 'cats-*'.")
]
HasFailed = Annotated[bool, typer.Option("--failed", help="Only batches with failed prompts or dead letters.")]
SortBy = Annotated[Sort | None, typer.Option("--sort", help="Default: newest, the newest first.")]


Forgotten = Annotated[
    bool, typer.Option("--all", help="Also batches that Redis forgot, by their folders; this reads them.")
]


@dataclass(frozen=True)
class BatchOptions:
    """The options that select batches, and their order."""

    all: Forgotten = False
    states: States = field(default_factory=list)
    since: options.Since = None
    name: NamePattern = None
    failed: HasFailed = False
    sort: SortBy = None

    def filter(self) -> BatchFilter | None:
        """The batches that they select; None when nothing is given."""
        if not (self.states or self.since or self.name is not None or self.failed or self.sort):
            return None
        name = "*" if self.name is None else self.name
        return BatchFilter(frozenset(self.states), self.since, name, self.failed, self.sort or "newest")


@dataclass(frozen=True)
class PromptOptions:
    """The options that select prompts by their rows."""

    ids: Ids = field(default_factory=list)
    models: Models = field(default_factory=list)

    def selection(self) -> Selection | None:
        """The prompts that they select; None when nothing is given."""
        return _selection(ids=frozenset(self.ids), models=frozenset(self.models))


@dataclass(frozen=True)
class FailureOptions:
    """The options that select prompts which did not succeed."""

    ids: Ids = field(default_factory=list)
    models: Models = field(default_factory=list)
    kinds: Kinds = field(default_factory=list)
    status: Status = None
    message: Message = ""

    def selection(self) -> Selection | None:
        """The prompts that they select; None when nothing is given."""
        return _selection(
            ids=frozenset(self.ids),
            models=frozenset(self.models),
            kinds=frozenset(self.kinds),
            statuses=frozenset({self.status} if self.status else ()),
            message=self.message,
        )


def _selection(**given: frozenset[str] | str) -> Selection | None:
    from jobs.operations.selection import Selection

    return Selection(**given) if any(given.values()) else None  # type: ignore[arg-type]  # each is of its field's type
