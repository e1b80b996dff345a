"""The options that select prompts of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from jobs.cli.shell import candidates
from jobs.wire import ErrorKind

if TYPE_CHECKING:
    from jobs.operations.selection import Selection


def _check_kinds(kinds: list[str]) -> list[str]:
    if unknown := set(kinds) - set(get_args(ErrorKind)):
        raise typer.BadParameter(f"{min(unknown)!r} is none of: {', '.join(sorted(get_args(ErrorKind)))}")
    return kinds


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
    typer.Option("--kind", metavar="KIND", callback=_check_kinds, help="Only such errors; may be repeated."),
]
Status = Annotated[Literal["failed", "canceled"] | None, typer.Option(help="Only those that ended so.")]
Message = Annotated[str, typer.Option(metavar="TEXT", help="Only those whose error says this.")]


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
