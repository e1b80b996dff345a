"""The group of all commands: where their errors become one message and an exit code."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from jobs.errors import BatchError
from jobs.hints import as_typed
from jobs.text import printable

STOPPED, CLOSED_PIPE = 130, 141
"""What a shell shows for a program that was stopped, by whichever signal, or whose reader went away."""

UNWRITTEN = 2
"""As for any other disk that does not do what is asked."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}
"""What an open stream may say to a write: a full disk, a terminal that is gone, a pipe that must not be waited for."""


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
