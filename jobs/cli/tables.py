"""The tables that people read: batches, totals, failures, schedules.

They fit their terminal: the least important columns are left out, then rows are stacked. No cell is ever cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobs.operations.report import done, fire_time, money_spent, pace, shown_state, spent_words
from jobs.prices.money import money
from jobs.text import printable, size_text
from jobs.wire import Result, Status, as_local

if TYPE_CHECKING:
    from jobs.batch_folder.costs import BatchCosts
    from jobs.batch_folder.folder import Folder
    from jobs.batch_folder.rows.totals import Totals
    from jobs.schedules.scheduler import ScheduleStatus
    from jobs.schedules.upcoming import FireTime

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))

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


def batches_table(statuses: Sequence[Status], now: float) -> Columns:
    """One row for each batch; `now` in Unix seconds."""

    def numbers(heading: str, values: Iterable[int], gives_way: int = 0) -> Column:
        return Column(heading, [str(value or "") for value in values], right=True, gives_way=gives_way)

    costs = [
        "" if status.cost is None else money_spent(status.cost, is_partial=status.cost_is_partial)
        for status in statuses
    ]
    return Columns(
        [
            Column("batch", [status.batch for status in statuses]),
            Column("state", [shown_state(status) for status in statuses]),
            Column("done", [f"{done(status)}/{status.total}" for status in statuses], right=True),
            numbers("failed", (status.failed for status in statuses)),
            numbers("canceled", (status.canceled for status in statuses)),
            numbers("in flight", (status.in_flight for status in statuses), gives_way=2),
            Column("cost", costs, right=True, gives_way=3),
            Column("pace", [pace(status) for status in statuses], gives_way=1),
            Column("age", [age(status.created_at, now) for status in statuses], right=True, gives_way=4),
        ]
    )


def batch_table(status: Status, now: float) -> Table:
    """All facts of one batch; `now` in Unix seconds."""
    table = _grid()
    for name, value in _rows(status, now):
        if value:
            table.add_row(name, value)
    return table


def _rows(status: Status, now: float) -> Iterator[tuple[str, str]]:
    yield ("batch", status.batch)
    yield ("state", shown_state(status))
    yield ("done", f"{done(status)} of {status.total}")
    for name in ("succeeded", "failed", "canceled", "in_flight", "waiting", "unknown_creates", "aborted"):
        yield (name.replace("_", " "), str(getattr(status, name) or ""))
    yield ("lost outputs", str(status.output_lost or ""))
    yield ("over budget", str(status.over_budget or ""))
    yield ("no output", str(status.empty or ""))
    yield ("files not saved", str(status.unsaved or ""))
    yield ("dead letters", ", ".join(status.dead_letters))
    limit = "" if status.max_predictions is None else f" of {status.max_predictions}"
    yield ("predictions", f"{status.predictions}{limit}" if status.predictions or limit else "")
    yield ("cost", spent_words(status))
    if len(status.model_costs) > 1:
        yield from ((f"  {model}", money(cost)) for model, cost in status.model_costs.items())
    yield ("at once", "" if status.max_in_flight is None else f"at most {status.max_in_flight} in flight")
    yield ("begun", f"{as_local(status.created_at)}, {age(status.created_at, now)} ago")
    if status.finished_at:
        took = datetime.fromisoformat(status.finished_at) - datetime.fromisoformat(status.created_at)
        yield ("ended", f"{as_local(status.finished_at)}, after {timedelta(seconds=round(took.total_seconds()))}")
    else:
        yield ("pace", pace(status))
        yield ("workers", str(status.workers))


def totals_table(totals: Totals) -> Table:
    """The counts of a batch."""
    table = _grid()
    for outcome, style in (("succeeded", "green"), ("failed", "red"), ("canceled", "yellow"), ("missing", "yellow")):
        count = getattr(totals, outcome)
        if count or outcome == "succeeded":
            table.add_row(outcome if outcome != "missing" else "not done yet", Text(str(count), style))
    table.add_row("files", f"{totals.files} ({size_text(totals.bytes)})")
    if totals.cost is not None:
        table.add_row("cost", money_spent(totals.cost, is_partial=totals.cost_is_partial))
    return table


def path_lines(folder: Folder, totals: Totals) -> Iterator[str]:
    """The paths of a batch's files, in lines that are never broken, so that they can be copied."""
    for name, path in (("results", folder.results), ("errors", folder.errors), ("gallery", folder.gallery)):
        if path.exists() and (name != "errors" or totals.failed + totals.canceled):
            yield f"{name:<10} {path}"


def failures_table(failed: Iterable[Result]) -> Columns:
    """The prompts that did not succeed, one a row, with the reason."""
    failed = list(failed)
    reasons = [printable(result.error.message) if result.error else "" for result in failed]
    return Columns(
        [
            Column("prompt", [result.id for result in failed]),
            Column("kind", [result.error.kind if result.error else result.status for result in failed]),
            Column("reason", reasons, wraps=True),
        ]
    )


def schedules_table(schedules: Iterable[ScheduleStatus]) -> Columns:
    """One row for each schedule; times are in the schedule's own zone."""
    schedules = list(schedules)
    return Columns(
        [
            Column("schedule", [one.name for one in schedules]),
            Column("cron", [one.cron for one in schedules], gives_way=2),
            Column("timezone", [one.timezone for one in schedules], gives_way=4),
            Column("next", [fire_time(one.next) for one in schedules]),
            Column("last", [fire_time(one.last) for one in schedules], gives_way=1),
            Column("last batch", [one.last_batch or "" for one in schedules], gives_way=3),
        ]
    )


def fire_times_table(times: Sequence[FireTime]) -> Columns:
    """One row for each fire time, in its schedule's zone."""
    return Columns(
        [
            Column("next", [fire_time(one.time) for one in times]),
            Column("timezone", [one.timezone for one in times], gives_way=2),
            Column("schedule", [one.schedule for one in times], gives_way=1),
            Column("batch", [one.batch for one in times]),
        ]
    )


def age(moment: str, now: float) -> str:
    """How long ago an RFC 3339 time was, in the largest unit that fits."""
    seconds = max(now - datetime.fromisoformat(moment).timestamp(), 0)
    size, unit = next((pair for pair in UNITS if seconds >= pair[0]), (1, "s"))
    return f"{seconds // size:.0f} {unit}"


def costs_table(costs: Sequence[BatchCosts]) -> Columns:
    """One row for each batch and model."""
    rows = [(one.batch, model, spent) for one in costs for model, spent in one.models.items()]
    return Columns(
        [
            Column("batch", [batch for batch, _, _ in rows]),
            Column("model", [model for _, model, _ in rows], gives_way=1),
            Column("prompts", [str(spent.prompts) for *_, spent in rows], right=True, gives_way=3),
            Column("predictions", [str(spent.predictions) for *_, spent in rows], right=True, gives_way=2),
            Column("cost", [money(spent.cost) for *_, spent in rows], right=True),
            Column("not known of", [str(spent.unknown or "") for *_, spent in rows], right=True),
        ]
    )


def _grid() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    return table
