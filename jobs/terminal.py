"""What all commands share: exit codes and messages of errors, and printing, for people or as JSON."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol

import typer
from pydantic import BaseModel
from rich.console import Console, ConsoleDimensions, ConsoleRenderable
from typer.core import TyperGroup

from jobs.errors import BatchError
from jobs.text import as_typed, printable

STOPPED, CLOSED_PIPE = 130, 141
"""The exit codes of a program that a signal stopped, or whose reader closed the pipe."""

UNWRITTEN = 2
"""As for StorageError."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}
"""Errors of a write to an open stream: a full disk, a closed terminal, a pipe that would block."""

PIPE_SIZE = ConsoleDimensions(1_000_000, 25)
"""Columns and lines where there is no terminal: lines are never broken."""


class Commands(TyperGroup):
    """Commands whose BatchErrors are printed without a traceback; Ctrl-C ends with 130 (typer's)."""

    sections: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Headings of the help, and the commands below each; those that no heading has come last."""

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
        except asyncio.CancelledError:
            raise typer.Exit(STOPPED) from None
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


class Rows(ConsoleRenderable, Protocol):
    """A table of any kind."""

    @property
    def row_count(self) -> int:
        """How many rows it has."""


class Printer(Console):
    """Standard output (or error) for people: cuts no lines; leaves a closed pipe to the caller."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        if not (sys.stderr if stderr else sys.stdout).isatty():
            self.size = PIPE_SIZE
        elif self.is_dumb_terminal:  # which rich takes to be 80 columns wide, unless both are given
            self.size = ConsoleDimensions(*shutil.get_terminal_size())

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise  # noqa: PLE0704 - rich calls this inside its `except`

    def lines(self, texts: Iterable[str]) -> None:
        """Print lines, never wrapped."""
        for text in texts:
            self.print(printable(as_typed(text)), soft_wrap=True)

    def show(self, table: Rows, below: Iterable[str] = ()) -> None:
        """Print a table, unless it has no row, and lines below it."""
        if table.row_count:
            with self.capture() as drawn:
                self.print(table)
            text = drawn.get()
            self.file.write(text if self.is_terminal else re.sub(r" +$", "", text, flags=re.MULTILINE))
        self.lines(below)


def as_json(facts: BaseModel | Sequence[BaseModel]) -> str:
    """One line of JSON: an object, or an array of them."""
    if isinstance(facts, BaseModel):
        return facts.model_dump_json()
    return f"[{', '.join(fact.model_dump_json() for fact in facts)}]"
