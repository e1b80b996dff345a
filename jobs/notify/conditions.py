"""The events of what goes wrong: each with an id by which it is one event, however often it is seen."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from jobs.notify.event import Event
from jobs.wire import Batch, local_time

BY_HAND = "hand"
STATUS = "python -m jobs status"
CREDIT = "https://replicate.com/account/billing"


def missed_event(schedule: str, due: int, batch: str, reason: str, *, again: bool) -> Event:
    """A schedule did not fire; `again`: it is tried until its next time."""
    then = f"{batch} is tried again until the next time is due" if again else f"{batch} is not enqueued"
    return Event(
        id=f"missed:{schedule}:{due}",
        name="missed",
        at=time.time(),
        title=f"schedule {schedule} did not fire at {local_time(due)}",
        lines=[reason, then, "Next: python -m jobs schedules"],
        batch=batch,
        data={"schedule": schedule, "batch": batch, "due": due, "reason": reason, "next": "python -m jobs schedules"},
    )


def wrong_schedules_event(error: str) -> Event:
    """The file of schedules is wrong, so that some or all of them do not fire; the same error is one event."""
    return Event(
        id=f"missed:file:{hashlib.sha256(error.encode()).hexdigest()[:16]}",
        name="missed",
        at=time.time(),
        title="schedules do not fire, as their file is wrong",
        lines=[error, "Next: python -m jobs schedules"],
        data={"schedule": None, "batch": None, "due": None, "reason": error, "next": "python -m jobs schedules"},
    )


def paused_event(since: int, by: str, reason: str, person: str | None = None) -> Event:
    """A worker or a `person` paused everything, or creates are slowed down for low credit."""
    title = "predictions are slowed down: the credit is low" if by == "low_credit" else "everything is paused"
    facts: dict[str, Any] = {"by": by}
    if by == BY_HAND:
        title = f"everything is paused by {person or 'a person'}"
        facts |= {"person": person}
    command = "python -m jobs resume" if by == BY_HAND else STATUS
    return _account_event("paused", f"paused:{by}:{since}", title, reason, facts, command)


def backlog_event(since: int, reason: str) -> Event:
    """Outputs are not saved in time, or cannot be saved: Replicate deletes them after an hour."""
    title = "outputs are in danger: Replicate deletes them after an hour"
    return _account_event("backlog", f"backlog:{since}", title, reason, {})


def _account_event(
    name: Any, event_id: str, title: str, reason: str, facts: dict[str, Any], command: str = STATUS
) -> Event:
    lines = [reason, f"Next: {command}"]
    data = {**facts, "reason": reason, "next": command}
    return Event(id=event_id, name=name, at=time.time(), title=title, lines=lines, data=data)


def budget_event(batch: Batch, generation: int) -> Event:
    """A batch may spend no more: what is left of it fails."""
    limits = {"--max-predictions N": batch.max_predictions, "--max-cost DOLLARS": batch.max_cost}
    flags = " ".join(flag for flag, limit in limits.items() if limit is not None)
    left = batch.total - batch.settled
    command = f"python -m jobs retry {batch.name} {flags}"
    lines = [f"{left:,} of {batch.total:,} prompts have no result yet, and fail unless it is raised"]
    data = {"batch": batch.name, "batch_id": batch.id, "left": left, "predictions": batch.predictions, "next": command}
    return Event(
        id=f"budget:{batch.id}:{generation}",
        name="budget",
        at=time.time(),
        title=f"{batch.name} has used up its budget",
        lines=[*lines, f"Next: {command}"],
        batch=batch.name,
        data=data,
    )


def dead_letter_event(batch: str, batch_id: str, job: str, reason: str) -> Event:
    """A shard does not run any more after repeated crashes."""
    command = f"python -m jobs retry {batch}"
    day = time.strftime("%Y-%m-%d", time.gmtime())  # a shard that was brought back may die again
    return Event(
        id=f"dead_letter:{batch_id}:{job}:{day}",
        name="dead_letter",
        at=time.time(),
        title=f"a shard of {batch} is a dead letter",
        lines=[f"{job}: {reason}", f"Next: {command}"],
        batch=batch,
        data={"batch": batch, "batch_id": batch_id, "job": job, "reason": reason, "next": command},
    )


def trial_event() -> Event:
    """What `notify test` sends."""
    now = time.time()
    return Event(
        id=f"test:{now}",
        name="test",
        at=now,
        title="a test of replicate-batch",
        lines=["If you can read this, notifications reach you."],
        data={"next": "python -m jobs notify"},
    )
