"""What people can see and try of notifications: receivers, the last deliveries, and a test message to each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel

from jobs.errors import NotifyError
from jobs.notify.conditions import trial_event
from jobs.notify.delivery import Record
from jobs.notify.file import ReceiversFile
from jobs.notify.receiver import Outcome, Receiver
from jobs.notify.sender import Sender
from jobs.state.outbox import Outbox

SHOWN = 20


class ReceiverStatus(BaseModel):
    """A receiver, how many messages wait for it, and how its last try ended; `refuses`: it answered 410."""

    name: str
    kind: str
    events: list[str]
    batches: str
    signed: bool
    waiting: int = 0
    refuses: bool = False
    last: Record | None = None


class Notifications(BaseModel):
    """All receivers, the last deliveries, newest first, and what is wrong with the file, line by line."""

    file: str
    receivers: list[ReceiverStatus]
    deliveries: list[Record] = []
    problems: list[str] = []


class Trial(BaseModel):
    """How a test message ended."""

    receiver: str
    delivered: bool
    error: str | None = None
    hint: str | None = None


def hint_for(receiver: Receiver, outcome: Outcome) -> str | None:
    """What may be wrong with a receiver whose message was not delivered."""
    if receiver.kind != "webhook" or outcome.is_delivered:
        return None
    if outcome.why.startswith(("HTTP 401", "HTTP 403")):
        secret = "is its secret the one that secret_env names?" if receiver.secret else "it may want one: secret_env"
        return f"it does not take our signature; {secret}"
    if outcome.why.startswith("HTTP 404"):
        return "the address has no such page: is its path right?"
    if outcome.why.startswith("no answer"):
        return "is something listening at that address, and can this machine reach it?"
    return None


async def read_notifications(file: ReceiversFile, outbox: Outbox | None) -> Notifications:
    """Everything that is known; without an outbox, as where no Redis has ever run, only the receivers."""
    records = [Record.model_validate(record) for record in await outbox.records()] if outbox else []
    waiting = [delivery.partition("/")[0] for delivery in await outbox.waiting()] if outbox else []
    silenced = await outbox.silenced() if outbox else {}
    last = {record.receiver: record for record in reversed(records)}
    found = [
        ReceiverStatus(
            name=one.name,
            kind=one.kind,
            events=list(one.events),
            batches=one.batches,
            signed=bool(one.secret),
            waiting=waiting.count(one.name),
            refuses=silenced.get(one.name) == one.mark,
            last=last.get(one.name),
        )
        for one in file.receivers
    ]
    problems = [str(problem) for problem in file.problems]
    return Notifications(file=str(file.path), receivers=found, deliveries=records[:SHOWN], problems=problems)


def chosen(file: ReceiversFile, name: str | None) -> Sequence[Receiver]:
    """The receivers to test, by default all; NotifyError."""
    if not file.is_whole:
        file.check()
    found = [one for one in file.receivers if name in (None, one.name)]
    if not found and name is None:
        file.check()
        raise NotifyError(
            f"there is no receiver in {file.path}; the README shows one; `python -m jobs notify` lists them"
        )
    if not found:
        file.check()
        known = ", ".join(one.name for one in file.receivers) or "none"
        raise NotifyError(f"{file.path} has no receiver {name!r}; there are: {known}")
    return found


async def send_trials(file: ReceiversFile, receivers: Sequence[Receiver], sender: Sender) -> list[Trial]:
    """Send a test message to each, all at once."""
    event = trial_event()
    outcomes = await asyncio.gather(*(sender.send(one, event, file.variables) for one in receivers))
    return [
        Trial(receiver=one.name, delivered=outcome.is_delivered, error=outcome.why or None, hint=hint_for(one, outcome))
        for one, outcome in zip(receivers, outcomes, strict=True)
    ]
