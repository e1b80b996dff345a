"""The tables that people read: batches, totals, failures, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from jobs.cli.columns import Column, Columns
from jobs.cli.report import done, fire_time, pace, shown_state
from jobs.prices import money
from jobs.text import printable
from jobs.wire import Result, Status, as_local

if TYPE_CHECKING:
    from jobs.batch_folder.folder import Folder
    from jobs.batch_folder.results import Totals
    from jobs.schedules.scheduler import ScheduleStatus

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def batches_table(statuses: Sequence[Status], now: float) -> Columns:
    """One row for each batch; `now` in Unix seconds."""

    def numbers(heading: str, values: Iterable[int], gives_way: int = 0) -> Column:
        return Column(heading, [str(value or "") for value in values], right=True, gives_way=gives_way)

    costs = ["" if status.cost is None else money(status.cost) for status in statuses]
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
    """What there is to say of one batch; `now` in Unix seconds."""
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
    yield ("set aside", ", ".join(status.dead_letters))
    limit = "" if status.max_predictions is None else f" of {status.max_predictions}"
    yield ("predictions", f"{status.predictions}{limit}" if status.predictions or limit else "")
    dollars = "" if status.cost is None else money(status.cost)
    yield ("cost", dollars if status.max_cost is None else f"{money(status.cost or 0)} of {money(status.max_cost)}")
    yield ("at once", "" if status.max_in_flight is None else f"at most {status.max_in_flight} in flight")
    yield ("begun", f"{as_local(status.created_at)}, {age(status.created_at, now)} ago")
    if status.finished_at:
        took = datetime.fromisoformat(status.finished_at) - datetime.fromisoformat(status.created_at)
        yield ("ended", f"{as_local(status.finished_at)}, after {timedelta(seconds=round(took.total_seconds()))}")
    else:
        yield ("pace", pace(status))
        yield ("workers", str(status.workers))


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
            Column("next", [fire_time(one.next) for one in schedules]),
            Column("last", [fire_time(one.last) for one in schedules], gives_way=1),
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
