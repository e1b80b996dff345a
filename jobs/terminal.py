"""What all commands share: exit codes and messages of errors, and printing, for people or as JSON."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from jobs.errors import BatchError
from jobs.text import as_typed, printable

if TYPE_CHECKING:
    from pydantic import BaseModel

STOPPED, CLOSED_PIPE = 130, 141
"""The exit codes of a program that a signal stopped, or whose reader closed the pipe."""

UNWRITTEN = 2
"""As for StorageError."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}
"""Errors of a write to an open stream: a full disk, a closed terminal, a pipe that would block."""


class LazyCommand(TyperCommand):
    """The name and the help line of a command at `module:function`, or of a group at `module:app`, not imported yet."""

    def __init__(self, name: str, place: str, line: str) -> None:
        super().__init__(name, help=line)
        self._place = place

    def load(self) -> Any:
        """Import the command itself."""
        module, _, attribute = self._place.partition(":")
        found = getattr(import_module(module), attribute)
        parent = typer.Typer(add_completion=False, rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            parent.add_typer(found, name=self.name)
        else:
            parent.callback()(_nothing)
            parent.command(self.name)(found)
        return get_command(parent).commands[self.name]  # type: ignore[attr-defined]  # it is a group


def _nothing() -> None:
    """Make a group of a single command."""


class Commands(TyperGroup):
    """Commands whose BatchErrors are printed without a traceback; Ctrl-C ends with 130 (typer's)."""

    lazy: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Commands that are imported when they are run: where they are, and their lines of the help."""

    sections: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Headings of the help, and the commands below each; those that no heading has come last."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (place, line) in self.lazy.items():
            self.add_command(LazyCommand(name, place, line))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by their headings."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        listed = {name for names in self.sections.values() for name in names}
        rest = {"Commands": [name for name in commands if name not in listed]}
        width = formatter.width - 6 - max(map(len, commands))
        for heading, names in {**self.sections, **rest}.items():
            rows = [(name, found.get_short_help_str(width)) for name in names if (found := commands.get(name))]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows, col_max=30)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except BatchError as error:
            typer.echo(f"Error: {printable(as_typed(str(error)))}", err=True)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            _discard_output()
            raise typer.Exit(CLOSED_PIPE) from None
        return answer


def run_app(app: typer.Typer) -> None:
    """Run the command that the arguments name; exit code 2 when its output cannot be written."""
    _escape_unprintable()
    try:
        app()
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        _discard_output()
        with suppress(OSError):
            typer.echo(f"Error: the output could not be written: {error.strerror}. What was done stays done.", err=True)
        raise SystemExit(UNWRITTEN) from None


def _escape_unprintable() -> None:
    """Escape what the terminal's encoding lacks, so that no name ends a command; replace a closed stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - it stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_lines(texts: Iterable[str], *, stderr: bool = False) -> None:
    """Print lines for people."""
    for text in texts:
        typer.echo(printable(as_typed(text)), err=stderr)


def as_json(facts: BaseModel | Sequence[BaseModel]) -> str:
    """One line of JSON: an object, or an array of them."""
    if isinstance(facts, Sequence):
        return f"[{', '.join(fact.model_dump_json() for fact in facts)}]"
    return facts.model_dump_json()
