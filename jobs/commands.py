"""The group of all commands: where their errors become one message and an exit code."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from jobs.errors import BatchError
from jobs.foreign_text import printable
from jobs.hints import as_typed

STOPPED, CLOSED_PIPE = 130, 141
"""What a shell shows for a program that was stopped, by whichever signal, or whose reader went away."""


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
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CLOSED_PIPE) from None
        return answer


def print_anything() -> None:
    """Escape what the terminal's encoding lacks, so that no name or reason ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
