"""Following a batch until it ends: a live bar on a terminal, else a line for each change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobs.cli.shell.window import Window
from jobs.operations.operations import Operations
from jobs.operations.report import done, facts, has_ended, is_finished, notes, status_line, without_numbers
from jobs.text import as_typed, printable
from jobs.wire import Status

POLL_SECONDS = 0.5
"""Seconds between two readings of a status."""

LINE_EVERY = 3.0
"""Least seconds between two lines."""

SHORTEST_BAR = 14
"""Columns of the shortest bar, with the blanks around it."""


WINDOW = 60.0
"""Seconds that Redis counts results over: after them, its pace is that of one run alone."""


class Screen(Protocol):
    """Where a followed batch is shown; entered before the first status and left after the last."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
    def show(self, status: Status) -> None:
        """Show the newest status."""


async def follow(read: Callable[[], Awaitable[Status]], screen: Screen, *, every: float = POLL_SECONDS) -> Status:
    """Show what `read` returns until every prompt has its result, or is in a dead letter; returns the last status."""
    with screen:
        while True:
            status = await read()
            screen.show(status)
            if has_ended(status):
                return status
            await asyncio.sleep(every)


async def watch(operations: Operations, name: str | None, screen: Screen, say: Callable[[str], None]) -> Status:
    """Follow a batch, None: the newest that is not finished, which `say` names.

    BatchNotFound when there is none, also once it is deleted.
    """
    found = await operations.newest(name)
    if name is None:
        say(f"Watching {found}, the newest batch; `python -m jobs status` lists all")
    return await follow(lambda: operations.status(found), screen)


class OwnPace:
    """Replaces pace and ETA by those of what was settled since its start, as long as Redis counts more than that."""

    def __init__(self, first: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._done, self._begun, self._clock = done(first), clock(), clock

    def __call__(self, status: Status) -> Status:
        """The status with the run's own pace."""
        seconds, settled = self._clock() - self._begun, done(status) - self._done
        if seconds >= WINDOW:
            return status
        rate = settled * 60 / seconds if settled > 0 and seconds else 0.0
        eta = (status.total - done(status)) / rate * 60 if rate and status.eta is not None else None
        return status.model_copy(
            update={"rate_per_minute": round(rate, 1), "eta": None if eta is None else round(eta, 1)}
        )


def is_live(console: Console) -> bool:
    """Whether a bar can be redrawn in place there."""
    return console.is_interactive and console.file.isatty()


def screen_for(console: Console) -> Screen:
    """Return a bar for a terminal, lines for anything else."""
    if is_live(console):
        return BarScreen(console, Window(console))
    return LineScreen(LineWriter(console))


@contextmanager
def progress_line(console: Console) -> Iterator[Callable[[str], None] | None]:
    """Yield a function that shows a text in a line, which vanishes with the block; None where nobody looks."""
    if not is_live(console):
        yield None
        return
    with console.status(Text("")) as line:
        yield lambda text: line.update(Text(printable(text)))


def json_screen() -> Screen:
    """Return lines of JSON on standard output."""
    return LineScreen(lambda status: typer.echo(status.model_dump_json()))


class LineScreen(AbstractContextManager["LineScreen", None]):
    """Prints a status by `write` at once when it is the first or the last, else when it changed, every few seconds."""

    def __init__(self, write: Callable[[Status], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._facts: object = None
        self._next = 0.0

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def show(self, status: Status) -> None:
        """Write the status if it has changed and it is time for a line."""
        facts = status.model_dump(exclude={"rate_per_minute", "eta", "reasons"}) | {
            "reason": without_numbers(status.reason or "")
        }
        if facts == self._facts or (self._facts is not None and self._clock() < self._next and not has_ended(status)):
            return
        self._write(status)
        self._facts, self._next = facts, self._clock() + LINE_EVERY


class LineWriter:
    """Writes a status as a line, and below it the notes that the last one did not have."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_notes: set[str] = set()

    def __call__(self, status: Status) -> None:
        """Write it."""
        self._console.print(status_line(status), soft_wrap=True)
        now = {without_numbers(note): note for note in notes([status])}
        for note in (note for key, note in now.items() if key not in self._last_notes):
            self._console.print(f"  {as_typed(note)}", soft_wrap=True)
        self._last_notes = set(now)


class BarScreen(AbstractContextManager["BarScreen", None]):
    """A bar, the counts and what a person should know, redrawn in place; the window shows them in short."""

    def __init__(self, console: Console, window: Window) -> None:
        self._live, self._window = Live(console=console, refresh_per_second=4), window
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Take the terminal's last lines."""
        self._open.enter_context(self._live)
        self._open.enter_context(self._window)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._open.close()

    def show(self, status: Status) -> None:
        """Redraw."""
        self._live.update(picture(status), refresh=has_ended(status))
        self._window.show(status)


def picture(status: Status) -> RenderableType:
    """A status as a bar, a line of facts and its notes; whatever the width, no name and no number is cut."""
    line = Text(status.state if is_finished(status) else "")
    for fact in facts(status):
        line.append(" · " if line else "", "dim").append(fact, "red" if fact.endswith("failed") else "")
    return Group(Bar(status), line, *(Text(as_typed(note), "yellow", overflow="fold") for note in notes([status])))


@dataclass(frozen=True, slots=True)
class Bar:
    """Name, bar and count in one line; the name has a line of its own where there is no room for all three."""

    status: Status

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as wide as there is room."""
        status, name = self.status, Text(self.status.batch, "bold", overflow="fold")
        count = f"{done(status)}/{status.total}"
        bar = ProgressBar(
            total=max(status.total, 1),
            completed=done(status),
            complete_style="cyan",
            finished_style="yellow" if status.failed + status.canceled else "green",
        )
        grid = Table.grid(padding=(0, 1), expand=True)
        if len(name) + len(count) + SHORTEST_BAR > options.max_width:
            yield name
            name = Text()
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_row(name, bar, Text(count))
        yield grid
