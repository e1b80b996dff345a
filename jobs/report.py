"""What people read: lines and tables made of the facts; the same facts as `--json` are the models themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.models import Result, Status

if TYPE_CHECKING:
    from jobs.enqueue import Receipt
    from jobs.folder import Folder
    from jobs.results import Totals
    from jobs.schedules import ScheduleStatus

START_WORKER = "python -m arq worker.Settings"
NO_WORKER = f"No worker is up. This starts one: {START_WORKER}"
NO_BATCH = "There is no batch yet; `python -m jobs enqueue FILE` makes one."
NO_SCHEDULE = "There is no schedule; they stand in schedules.toml, or where BATCH_SCHEDULES says."
SCHEDULE_HEADINGS = ("schedule", "cron", "timezone", "next", "last", "last batch")
PIPE_WIDTH = 160


class Paper(Console):
    """Standard output (or error) for people: wide when it is no terminal; a closed pipe is left to the caller."""

    def __init__(self, *, stderr: bool = False) -> None:
        terminal = (sys.stderr if stderr else sys.stdout).isatty()
        super().__init__(stderr=stderr, highlight=False, markup=False, width=None if terminal else PIPE_WIDTH)

    def on_broken_pipe(self) -> None:
        """Let the BrokenPipeError that is being handled go on."""
        raise  # noqa: PLE0704 - rich calls this inside its `except`

    def lines(self, texts: Iterable[str]) -> None:
        """Print lines, never wrapped."""
        for text in texts:
            self.print(printable(text), soft_wrap=True)

    def show(self, table: Table, below: Iterable[str] = ()) -> None:
        """Print a table, unless it has no row, and lines below it."""
        if table.row_count:
            self.print(table)
        self.lines(below)


def printable(text: str) -> str:
    """Foreign text without what would steer a terminal; line ends stay."""
    return "".join(c if c == "\n" or c.isprintable() else "�" for c in text)


def as_json(facts: BaseModel | Sequence[BaseModel]) -> str:
    """One line of JSON: an object, or an array of them."""
    if isinstance(facts, BaseModel):
        return facts.model_dump_json()
    return f"[{', '.join(fact.model_dump_json() for fact in facts)}]"


def over(status: Status) -> bool:
    """Tell whether every prompt has its result."""
    return status.finished_at is not None


def counted(number: int, noun: str) -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def receipt_line(receipt: Receipt) -> str:
    """What an `enqueue` or a `retry` did."""
    if receipt.already_done == receipt.total:
        return f"{receipt.batch}: {counted(receipt.total, 'prompt')}, all done already; nothing was enqueued"
    if not receipt.enqueued:
        return f"{receipt.batch}: nothing new to enqueue; {receipt.already_done} of {receipt.total} done"
    line = f"{receipt.batch}: {counted(receipt.enqueued, 'prompt')} enqueued in {counted(receipt.shards, 'shard')}"
    if receipt.already_done:
        line += f", {receipt.already_done} done already"
    return f"{line}; {receipt.total} in all"


def receipt_lines(receipt: Receipt) -> Iterator[str]:
    """The same, and what is missing for the work to begin."""
    yield receipt_line(receipt)
    if not receipt.workers and receipt.already_done < receipt.total:
        yield NO_WORKER


def cancel_lines(status: Status) -> Iterator[str]:
    """What becomes of a batch that is to be canceled."""
    if over(status):
        yield f"{status.batch} is {status.state} already; nothing to cancel"
    elif status.workers:
        yield f"{status.batch} is being canceled; `python -m jobs watch {status.batch}` follows"
    else:
        yield f"{status.batch} will be canceled by the next worker"
        yield NO_WORKER


def pace(status: Status) -> str:
    """Rate and time to go of an unfinished batch, as far as they are known."""
    if over(status):
        return ""
    parts = [f"{status.rate_per_minute:.0f}/min"] if status.rate_per_minute else []
    if status.eta is not None:
        parts.append(f"ETA {timedelta(seconds=round(status.eta))}")
    return ", ".join(parts)


def facts(status: Status) -> Iterator[str]:
    """The counts of a batch beside its total, those that are not zero."""
    for count, word in (
        (status.failed, "failed"),
        (status.canceled, "canceled"),
        (status.in_flight, "in flight"),
        (status.unknown_creates, "unknown creates"),
    ):
        if count:
            yield f"{count} {word}"
    if pace(status):
        yield pace(status)


def notes(statuses: Iterable[Status]) -> Iterator[str]:
    """What a person should know or do so that the unfinished batches go on, each thing once."""
    unfinished = [status for status in statuses if not over(status)]
    reasons: dict[str, list[str]] = {}
    for status in unfinished:
        if status.state == "paused":
            reasons[f"Paused: {status.reason}. `python -m jobs resume` lifts it."] = []
        elif status.reason:
            reasons.setdefault(status.reason, []).append(status.batch)
    for reason, names in reasons.items():
        yield printable(f"{', '.join(names)}: {reason}" if names else reason)
    if any(not status.workers for status in unfinished):
        yield NO_WORKER


def done(status: Status) -> int:
    """How many prompts have their result."""
    return status.succeeded + status.failed + status.canceled


def status_line(status: Status) -> str:
    """All of a status in one line."""
    line = ", ".join([f"{status.batch}: {status.state}, {done(status)} of {status.total} done", *facts(status)])
    return " · ".join([line, *notes([status])])


def batches_table(statuses: Iterable[Status]) -> Table:
    """One row for each batch."""
    table = Table("batch", "state", box=None, pad_edge=False, header_style="bold")
    for heading in ("done", "of", "failed", "canceled", "in flight", "per minute", "ETA"):
        table.add_column(heading, justify="right")
    table.add_column("created")
    for status in statuses:
        eta = "" if status.eta is None or over(status) else str(timedelta(seconds=round(status.eta)))
        counts = (done(status), status.total, status.failed, status.canceled, status.in_flight)
        rate = f"{status.rate_per_minute:.0f}"
        table.add_row(status.batch, status.state, *map(str, counts), rate, eta, short_time(status.created_at))
    return table


def batch_table(status: Status) -> Table:
    """All facts of one batch, one a row."""
    table = _grid()
    for name, value in status.model_dump().items():
        if value is None or name == "reason":
            continue
        shown = str(timedelta(seconds=round(value))) if name == "eta" else value
        shown = f"{value:.0f}" if name == "rate_per_minute" else shown
        table.add_row(name.replace("_", " "), str(shown))
    return table


def totals_table(folder: Folder, totals: Totals) -> Table:
    """How a batch went, and where everything lies."""
    table = _grid()
    for outcome, style in (("succeeded", "green"), ("failed", "red"), ("canceled", "yellow"), ("missing", "yellow")):
        count = getattr(totals, outcome)
        if count or outcome == "succeeded":
            table.add_row(outcome if outcome != "missing" else "not done yet", Text(str(count), style))
    table.add_row("files", f"{totals.files} ({megabytes(totals.bytes)})")
    for name, path in (("results", folder.results), ("errors", folder.errors), ("gallery", folder.gallery)):
        if path.exists() and (name != "errors" or totals.failed + totals.canceled):
            table.add_row(name, Text(str(path), overflow="fold"))
    return table


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


def schedule_notes(schedules: Iterable[ScheduleStatus]) -> Iterator[str]:
    """What went wrong at the last fire times, or that there is no schedule."""
    schedules = list(schedules)
    yield from (f"{one.name}: {one.last_error}" for one in schedules if one.last_error)
    if not schedules:
        yield NO_SCHEDULE


def short_time(moment: str) -> str:
    """`2026-11-21 02:48` of an RFC 3339 time; UTC stays UTC."""
    return f"{moment[:16].replace('T', ' ')}Z"


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _grid() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
