"""The lines that people read; `--json` prints the same facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from jobs.prices.money import money
from jobs.text import printable, size_text
from jobs.wire import NO_WORKER as NO_WORKER_REASON
from jobs.wire import Status

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Checked, Receipt
    from jobs.operations.preview import Preview
    from jobs.schedules.scheduler import ScheduleStatus

NO_SUCH_BATCH = "No batch is like that; `python -m jobs status` lists all."
START_WORKER = "python -m arq worker.Settings"
NO_WORKER = f"No worker is up. This starts one: {START_WORKER}"
NO_BATCH = "There is no batch yet; `python -m jobs enqueue FILE` creates one."
NO_SCHEDULE = (
    "There is no schedule; they are read from schedules.toml, or the file that BATCH_SCHEDULES names; "
    "`python -m jobs schedules` lists them."
)
_NUMBERS = re.compile(r"\d[\d.,:]*")
MOST_NAMED = 5
"""Most batches, or models, that a line names."""


def is_finished(status: Status) -> bool:
    """Whether every prompt has its result."""
    return status.finished_at is not None


def has_ended(status: Status) -> bool:
    """Whether nothing more will happen by itself: all is done, or only dead letters are left."""
    return is_finished(status) or status.stuck


def exit_code(status: Status) -> int:
    """The exit code of a command that followed a batch: 1 unless all succeeded."""
    return 1 if status.failed or status.canceled or status.stuck else 0


def count_text(number: int, noun: str) -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def receipt_line(receipt: Receipt) -> str:
    """What an `enqueue` or a `retry` did."""
    if receipt.already_done == receipt.total:
        return f"{receipt.batch}: {count_text(receipt.total, 'prompt')}, all done already; nothing was enqueued"
    if not receipt.enqueued:
        return f"{receipt.batch}: nothing new to enqueue; {receipt.already_done} of {receipt.total} done"
    line = (
        f"{receipt.batch}: {count_text(receipt.enqueued, 'prompt')} enqueued in {count_text(receipt.shards, 'shard')}"
    )
    if receipt.already_done:
        line += f", {receipt.already_done} done already"
    line = line if receipt.enqueued == receipt.total else f"{line}; {receipt.total} in all"
    words = estimate_words(receipt)
    left = "" if receipt.enqueued == receipt.total or not words.startswith("costs") else "what is left "
    return f"{line}; {left}{words}" if words else line


def estimate_words(facts: Receipt | Checked | Preview) -> str:
    """What is to be done will cost at least and at most, as far as that is known."""
    return cost_words(facts.cost_at_least, facts.cost_at_most, facts.unpriced_models)


def cost_words(least: float | None, most: float | None, unpriced: Sequence[str] = ()) -> str:
    """Dollars at least and at most, None: not known; without the prompts of `unpriced` models."""
    if unpriced or least is None:
        known = [] if least is None else [f"costs at least {money(least)}"]
        return "; ".join([*known, *([f"no price for {_named(unpriced)}"] if unpriced else [])])
    if most is None:
        return f"costs at least {money(least)}; how much at most is not known"
    return f"costs {money(least)}" if least == most else f"costs at least {money(least)}, at most {money(most)}"


def check_lines(source: str, checked: Checked) -> Iterator[str]:
    """That a file has no error, and what its prompts would cost."""
    made = f" made of {count_text(checked.rows, 'row')}" if checked.rows and checked.rows != checked.total else ""
    files = f" with {count_text(checked.files, 'file')} ({size_text(checked.file_bytes)})" if checked.files else ""
    line = f"{source}: {count_text(checked.total, 'prompt')}{made}{files}, no error"
    yield f"{line}; {estimate_words(checked)}" if estimate_words(checked) else line
    yield from pinned_lines(checked)
    yield from unpriced_lines(checked)
    yield from warning_lines(checked)


def pinned_lines(facts: Receipt | Checked) -> Iterator[str]:
    """Which version the batch keeps of community models that are named without one."""
    for model, version in facts.pinned.items():
        yield f"{model} is no official model: all of the batch runs at its version {version[:12]}"


def unpriced_lines(facts: Receipt | Checked | Preview) -> Iterator[str]:
    """What is not known of the costs, in a line, and the command that may tell."""
    if pages := [model.partition(":")[0] for model in facts.unpriced_models if model.count("/") == 1]:
        yield f"`python -m jobs prices fetch {' '.join(list(dict.fromkeys(pages))[:MOST_NAMED])}` reads missing prices"
    elif facts.unpriced_models:
        yield "BATCH_PRICES and prices.toml have no price for them"
    if others := facts.unpriced[len(facts.unpriced_models) :]:
        more = f"; and {len(others) - 1} more, which `--json` lists" if others[1:] else ""
        yield f"{others[0]}{more}"


def warning_lines(facts: Receipt | Checked) -> Iterator[str]:
    """What a person may want to change in the file before it is paid for."""
    yield from (f"Warning: {warning}" for warning in facts.warnings)


def file_lines(receipt: Receipt, source: str | None = None) -> Iterator[str]:
    """What an `enqueue` of the file `source` did, another file of an older batch, and what looks wrong in the file."""
    yield receipt_line(receipt)
    yield from unpriced_lines(receipt)
    if receipt.begun_from and receipt.begun_from != source and receipt.enqueued < receipt.total:
        yield f"The batch was first enqueued from {receipt.begun_from}"
    yield from pinned_lines(receipt)
    yield from warning_lines(receipt)


def receipt_lines(receipt: Receipt, source: str | None = None) -> Iterator[str]:
    """The same, and what is missing for the work to start."""
    yield from file_lines(receipt, source)
    if receipt.dead_letters:
        shards = count_text(len(receipt.dead_letters), "shard")
        yield f"Dead letters: {shards}. `python -m jobs status {receipt.batch}` says why"
    if receipt.already_done == receipt.total:
        yield results_note(receipt.batch)
    elif receipt.workers:
        yield f"`python -m jobs watch {receipt.batch}` follows it"
    else:
        yield NO_WORKER


def cancel_lines(status: Status) -> Iterator[str]:
    """What becomes of a batch that is to be canceled."""
    if is_finished(status):
        yield f"{status.batch} is {status.state} already; nothing to cancel"
        yield end_note(status)
    elif status.workers:
        yield f"{status.batch} is being canceled; `python -m jobs watch {status.batch}` follows it"
    else:
        yield f"{status.batch} will be canceled by the next worker"
        yield NO_WORKER


def pace(status: Status) -> str:
    """Rate and time to go of an unfinished batch, as far as they are known."""
    if is_finished(status) or shown_state(status) in ("paused", "waiting", "forgotten"):
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
        (status.output_lost, "lost outputs"),
        (status.empty, "without any output"),
        (status.unsaved, "files not saved"),
        (status.aborted, "aborted"),
    ):
        if count:
            yield f"{count} {word}"
    if status.dead_letters:
        yield count_text(len(status.dead_letters), "dead letter")
    yield from spending(status)
    if pace(status):
        yield pace(status)


def spending(status: Status) -> Iterator[str]:
    """What a batch has spent of what it may: predictions when these are limited, money when that is known."""
    if status.max_predictions is not None:
        yield f"{status.predictions} of {status.max_predictions} predictions"
    if words := spent_words(status):
        yield words


def spent_words(status: Status) -> str:
    """What a batch has cost, of its budget if it has one; "" when that is not known."""
    if status.cost is None and status.max_cost is None:
        return ""
    spent = money_spent(status.cost or 0, is_partial=status.cost_is_partial)
    return spent if status.max_cost is None else f"{spent} of {money(status.max_cost)}"


def money_spent(cost: float, *, is_partial: bool) -> str:
    """Dollars, which are the least when the cost of some predictions is not known."""
    return f"at least {money(cost)}" if is_partial else money(cost)


def budget_note(status: Status) -> str | None:
    """A sentence if the budget stops prompts, with the command that raises it."""
    predictions = status.max_predictions is not None and status.predictions >= status.max_predictions
    cost = status.max_cost is not None and (status.cost or 0) >= status.max_cost
    if status.over_budget:
        what = f"{count_text(status.over_budget, 'prompt')} failed because the budget allows no more"
    elif status.waiting and (predictions or cost) and not is_finished(status):
        what = "the budget allows no more; what still waits will fail"
    else:
        return None
    limits = [("--max-predictions N", status.max_predictions), ("--max-cost DOLLARS", status.max_cost)]
    flags = " ".join(flag for flag, limit in limits if limit is not None)
    spent = ", ".join(spending(status))
    return (
        f"{status.batch}: {what} ({spent}). To continue with a higher one: python -m jobs retry {status.batch} {flags}"
    )


def failure_note(batch: str, unsuccessful: int) -> str | None:
    """What to do about prompts of a finished batch that did not succeed."""
    if not unsuccessful:
        return None
    why, again = f"`python -m jobs results {batch} --failed`", f"`python -m jobs retry {batch}`"
    return f"{count_text(unsuccessful, 'prompt')} did not succeed: {why} says why, and {again} makes another attempt"


def results_note(batch: str) -> str:
    """Where to look at what a finished batch has got."""
    return f"`python -m jobs results {batch}` sums it up, and `python -m jobs open {batch}` opens its gallery"


def end_note(status: Status) -> str:
    """What to do with a batch that has ended."""
    if not is_finished(status):
        return f"`python -m jobs retry {status.batch}` brings its dead letters back"
    return failure_note(status.batch, status.failed + status.canceled) or results_note(status.batch)


def unsaved_note(status: Status) -> str | None:
    """A sentence if files stayed at their URLs, where Replicate deletes them after an hour."""
    if not status.unsaved:
        return None
    files = f"{count_text(status.unsaved, 'file')} in outputs {'was' if status.unsaved == 1 else 'were'} not fetched"
    return (
        f"{status.batch}: {files} (`unsaved` in its results), and Replicate deletes what it keeps after an hour. "
        f"BATCH_OUTPUT_HOSTS must name their host, {status.unsaved_host}, for the next ones"
    )


def _own_reasons(status: Status) -> list[str]:
    """Why a batch waits that is not paused; a missing worker is reported once for all batches."""
    reasons = status.reasons or [status.reason or ""]
    return [reason for reason in reasons if reason not in ("", NO_WORKER_REASON) and status.state != "paused"]


def notes(statuses: Iterable[Status]) -> Iterator[str]:
    """What a person should know or do so that the unfinished batches continue, each thing once."""
    statuses = list(statuses)
    if not statuses:
        yield NO_BATCH
    statuses = [status for status in statuses if status.state != "forgotten"]
    unfinished = [status for status in statuses if not is_finished(status)]
    reasons: dict[str, list[str]] = {}
    for status in unfinished:
        if status.state == "paused":
            reasons |= {note: [] for note in _pause_notes(status)}
            if status.dead_letters:
                reasons[f"`python -m jobs retry {status.batch}` brings back the dead letters of {status.batch}."] = []
        for reason in _own_reasons(status):
            reasons.setdefault(reason, []).append(status.batch)
    for reason, names in reasons.items():
        yield printable(f"{_named(names)}: {reason}" if names else reason)
    yield from filter(None, map(budget_note, statuses))
    yield from filter(None, map(unsaved_note, statuses))
    yield from _no_worker([status for status in unfinished if not status.workers])


def account_pause(status: Status) -> str:
    """Why everything is paused, not this batch alone; "" when it is not."""
    return (status.reason or "") if status.paused is None else "; ".join(status.reasons[:-1])


def _pause_notes(status: Status) -> Iterator[str]:
    """Why a paused batch is paused, and the commands that lift it: that of the account, or its own."""
    if reason := account_pause(status):
        yield f"Paused{_elsewhere(status)}: {reason}. `python -m jobs resume` lifts it."
    if status.paused is not None:
        yield f"{status.batch} is paused: {status.paused}. `python -m jobs resume --batch {status.batch}` lifts it."


def _no_worker(statuses: Sequence[Status]) -> Iterator[str]:
    if any(not status.elsewhere for status in statuses):
        yield NO_WORKER
    for host in sorted({status.api_host for status in statuses if status.elsewhere}):
        names = _named([status.batch for status in statuses if status.elsewhere and status.api_host == host])
        yield f"{names}: no worker is up for {host}; one that is started with these settings works for another API host"


def _elsewhere(status: Status) -> str:
    """The API host, when it is not that of the settings."""
    return f" at {status.api_host}, which is not the API host of these settings" if status.elsewhere else ""


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def shown_state(status: Status) -> str:
    """The state in a word: `waiting` when it has started and makes no progress, though nobody paused it."""
    idle = not status.workers or (bool(_own_reasons(status)) and not status.in_flight)
    return "waiting" if status.state == "running" and idle else status.state


def done(status: Status) -> int:
    """How many prompts have their result."""
    return status.succeeded + status.failed + status.canceled


def status_line(status: Status) -> str:
    """The numbers of a status in one line."""
    return ", ".join([f"{status.batch}: {shown_state(status)}, {done(status)} of {status.total} done", *facts(status)])


def without_numbers(text: str) -> str:
    """A sentence without its numbers, to see whether anything else has changed."""
    return _NUMBERS.sub("#", text)


def fire_time(moment: str | None) -> str:
    """An RFC 3339 time to the minute, as cron has it, in the zone of its schedule."""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M %Z") if moment else ""


def schedule_notes(schedules: Iterable[ScheduleStatus]) -> Iterator[str]:
    """What went wrong at the last fire times and what will, or that there is no schedule."""
    schedules = list(schedules)
    for one in schedules:
        if one.problem:
            yield f"{one.name}: {one.problem}"
        if one.last_error:
            yield f"{one.name}: {one.last_error}"
        missed = (miss for miss in one.misses if not (one.last_error or "").startswith(miss.batch))
        yield from (f"{one.name}: {fire_time(miss.time)} was missed: {miss.reason}" for miss in missed)
    if not schedules:
        yield NO_SCHEDULE
