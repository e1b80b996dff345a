"""What all commands share: one exit code and one message for an error, and printing, for people or as JSON."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import typer
from pydantic import BaseModel
from rich.console import Console, ConsoleDimensions, ConsoleRenderable
from typer.core import TyperGroup

from jobs.errors import BatchError
from jobs.text import as_typed, printable

STOPPED, CLOSED_PIPE = 130, 141
"""What a shell shows for a program that was stopped, by whichever signal, or whose reader went away."""

UNWRITTEN = 2
"""As for any other disk that does not do what is asked."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}
"""What an open stream may say to a write: a full disk, a terminal that is gone, a pipe that must not be waited for."""

PIPE_SIZE = ConsoleDimensions(1_000_000, 25)
"""Columns and lines where nobody looks: a line is never broken there."""


class Commands(TyperGroup):
    """Commands whose BatchErrors are printed without a traceback; Ctrl-C ends with 130 (typer's)."""

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
            _print_no_more()
            raise typer.Exit(CLOSED_PIPE) from None
        return answer


def run_app(app: typer.Typer) -> None:
    """Run the command that the arguments name; output that cannot be written is said to be lost, with exit code 2."""
    _print_anything()
    try:
        app()
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        _print_no_more()
        with suppress(OSError):
            typer.echo(f"Error: what was to be printed is lost: {error.strerror}. What was done stays done.", err=True)
        raise SystemExit(UNWRITTEN) from None


def _print_anything() -> None:
    """Escape what the terminal's encoding lacks, so that no name ends a command; a closed stream takes all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Rows(ConsoleRenderable, Protocol):
    """A table of any kind."""

    @property
    def row_count(self) -> int:
        """How many rows it has."""


class Printer(Console):
    """Standard output (or error) for people: no terminal cuts nothing; a closed pipe is left to the caller."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        if not (sys.stderr if stderr else sys.stdout).isatty():
            self.size = PIPE_SIZE
        elif self.is_dumb_terminal:  # which rich takes to be 80 columns wide, unless both are given
            self.size = ConsoleDimensions(*shutil.get_terminal_size())

    def on_broken_pipe(self) -> None:
        """Let the BrokenPipeError that is being handled go on."""
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
