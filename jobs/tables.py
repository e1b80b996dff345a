"""The tables that people read: batches, totals, failures, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from jobs.foreign_text import printable
from jobs.models import Result, Status
from jobs.prices import money
from jobs.report import done, pace

if TYPE_CHECKING:
    from jobs.folder import Folder
    from jobs.results import Totals
    from jobs.schedules import ScheduleStatus

SCHEDULE_HEADINGS = ("schedule", "cron", "timezone", "next", "last", "last batch")
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def batches_table(statuses: Sequence[Status], now: float) -> Table:
    """One row for each batch; only columns that say something. `now` in Unix seconds."""
    columns: dict[str, list[str]] = {
        "batch": [status.batch for status in statuses],
        "state": [status.state for status in statuses],
        "done": [f"{done(status)}/{status.total}" for status in statuses],
        "failed": [str(status.failed or "") for status in statuses],
        "canceled": [str(status.canceled or "") for status in statuses],
        "in flight": [str(status.in_flight or "") for status in statuses],
        "cost": ["" if status.cost is None else money(status.cost) for status in statuses],
        "pace": [pace(status) for status in statuses],
        "age": [age(status.created_at, now) for status in statuses],
    }
    said = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in said:
        words = heading in ("batch", "state", "pace")
        table.add_column(heading, justify="left" if words else "right", no_wrap=heading != "batch", overflow="fold")
    for row in zip(*said.values(), strict=True):
        table.add_row(*row)
    return table


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


def failures_table(failed: Iterable[Result]) -> Table:
    """The prompts that did not succeed, one a row, with the reason."""
    table = Table("prompt", "kind", "reason", box=None, pad_edge=False, header_style="bold")
    for result in failed:
        error = result.error
        reason = Text(printable(error.message) if error else "")
        table.add_row(result.id, error.kind if error else result.status, reason)
    return table


def schedules_table(schedules: Iterable[ScheduleStatus]) -> Table:
    """One row for each schedule; times are in the schedule's own zone."""
    table = Table(*SCHEDULE_HEADINGS, box=None, pad_edge=False, header_style="bold")
    for one in schedules:
        cells = (one.name, one.cron, one.timezone, one.next, one.last, one.last_batch)
        table.add_row(*(Text(cell or "") for cell in cells))
    return table


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
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
