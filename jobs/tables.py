"""The tables that people read: batches, totals, failures, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from jobs.columns import Column, Columns
from jobs.foreign_text import printable
from jobs.models import Result, Status
from jobs.prices import money
from jobs.report import done, pace

if TYPE_CHECKING:
    from jobs.folder import Folder
    from jobs.results import Totals
    from jobs.schedules import ScheduleStatus

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def batches_table(statuses: Sequence[Status], now: float) -> Columns:
    """One row for each batch; `now` in Unix seconds."""

    def numbers(heading: str, values: Iterable[int], gives_way: int = 0) -> Column:
        return Column(heading, [str(value or "") for value in values], right=True, gives_way=gives_way)

    costs = ["" if status.cost is None else money(status.cost) for status in statuses]
    return Columns(
        [
            Column("batch", [status.batch for status in statuses]),
            Column("state", [status.state for status in statuses]),
            Column("done", [f"{done(status)}/{status.total}" for status in statuses], right=True),
            numbers("failed", (status.failed for status in statuses)),
            numbers("canceled", (status.canceled for status in statuses)),
            numbers("in flight", (status.in_flight for status in statuses), gives_way=2),
            Column("cost", costs, right=True, gives_way=3),
            Column("pace", [pace(status) for status in statuses], gives_way=1),
            Column("age", [age(status.created_at, now) for status in statuses], right=True, gives_way=4),
        ]
    )


def batch_table(status: Status) -> Table:
    """All facts of one batch, one a row."""
    table = _grid()
    for name, value in status.model_dump().items():
        if value is None or name == "reason":
            continue
        shown = str(timedelta(seconds=round(value))) if name == "eta" else value
        shown = f"{value:.0f}" if name == "rate_per_minute" else shown
        shown = money(value) if name in ("cost", "max_cost") else shown
        table.add_row(name.replace("_", " "), str(shown))
    return table


def totals_table(totals: Totals) -> Table:
    """How a batch went."""
    table = _grid()
    for outcome, style in (("succeeded", "green"), ("failed", "red"), ("canceled", "yellow"), ("missing", "yellow")):
        count = getattr(totals, outcome)
        if count or outcome == "succeeded":
            table.add_row(outcome if outcome != "missing" else "not done yet", Text(str(count), style))
    table.add_row("files", f"{totals.files} ({megabytes(totals.bytes)})")
    if totals.cost is not None:
        table.add_row("cost", money(totals.cost))
    return table


def places(folder: Folder, totals: Totals) -> Iterator[str]:
    """Where everything of a batch lies, in lines that a terminal does not break: paths are for copying."""
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
            Column("next", [one.next or "" for one in schedules]),
            Column("last", [one.last or "" for one in schedules], gives_way=1),
            Column("last batch", [one.last_batch or "" for one in schedules], gives_way=3),
        ]
    )


def age(moment: str, now: float) -> str:
    """How long ago an RFC 3339 time was, in the largest unit that fits."""
    seconds = max(now - datetime.fromisoformat(moment).timestamp(), 0)
    size, unit = next((pair for pair in UNITS if seconds >= pair[0]), (1, "s"))
    return f"{seconds // size:.0f} {unit}"


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _grid() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table
