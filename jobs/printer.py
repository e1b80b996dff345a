"""Printing tables for people."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from typing import Protocol

from rich.console import Console, ConsoleDimensions, ConsoleRenderable

from jobs.text import as_typed, printable

PIPE_SIZE = ConsoleDimensions(1_000_000, 25)
"""Columns and lines where there is no terminal: lines are never broken."""


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
