"""A table that fits its terminal: columns give way by importance, then every row is stacked. No cell is ever cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GAP = 2
"""Blanks between two columns."""

READABLE = 24
"""Cells that a column whose lines may be broken has at least."""

INDENT = (0, 0, 0, 2)
JOINT = " · "


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and its cells; `gives_way` 0 is never left out, else the highest goes first; `wraps` may be broken."""

    heading: str
    cells: Sequence[str]
    right: bool = False
    gives_way: int = 0
    wraps: bool = False

    @property
    def width(self) -> int:
        """Cells that it needs."""
        longest = max(map(cell_len, (self.heading, *self.cells)))
        return min(longest, READABLE) if self.wraps else longest


class Columns:
    """The columns that say something; the first one names the row."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = [column for column in columns if any(column.cells)]
        self.row_count = len(columns[0].cells)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what fits there."""
        columns = list(self._columns)
        while _width(columns) > options.max_width:
            first = max(columns, key=lambda column: column.gives_way)
            if not first.gives_way:
                yield from self._stacked(options.max_width - INDENT[-1])
                return
            columns.remove(first)
        yield _table(columns)

    def _stacked(self, width: int) -> Iterator[Text | Padding]:
        name, *others = self._columns
        for row, title in enumerate(name.cells):
            yield Text(title, "bold", overflow="fold")
            facts = [f"{column.heading} {column.cells[row]}" for column in others if column.cells[row]]
            yield from (Padding(Text(line, overflow="fold"), INDENT) for line in _filled(facts, width))


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _table(columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(column.heading, justify=justify, no_wrap=not column.wraps, overflow="fold")  # type: ignore[arg-type]
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _filled(facts: Sequence[str], width: int) -> Iterator[str]:
    """Lines of as many facts as fit, none broken unless it is longer than a line."""
    line = ""
    for fact in facts:
        longer = f"{line}{JOINT}{fact}" if line else fact
        if line and cell_len(longer) > width:
            yield line
            longer = fact
        line = longer
    if line:
        yield line
