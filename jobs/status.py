"""How a batch stands: one value from its counters, its pace, its account."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from jobs.account import Account
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, sentence
from jobs.models import Batch, State, Status, timestamp
from jobs.prices import dollars
from jobs.queue import Queue


async def read_status(redis: Redis, batch: Batch) -> Status:
    """Gather what `status` shows of a batch; `eta` in seconds, None when nothing was settled of late."""
    batches, account = Batches(redis), Account(redis, batch.realm)
    in_flight = await batches.in_flight(batch.name)
    rate = await batches.rate_per_minute(batch.name)
    pause, trouble = await account.pause_reason(), await account.trouble() or await account.notice()
    paused_models = "; ".join((await account.paused_models()).values())
    left = batch.total - batch.settled
    dead = await DeadLetters(redis).of(batch.name) if left else {}
    stuck = bool(dead) and not await Queue(redis, batch.realm).jobs(batch.name)
    aside = sentence(batch.name, dead, batch.total) if dead else None
    return Status(
        batch=batch.name,
        state=_state(batch, paused=pause is not None, started=bool(in_flight or batch.settled)),
        reason=_reason(batch, pause, "; ".join(filter(None, [trouble or paused_models, aside]))),
        total=batch.total,
        succeeded=batch.succeeded,
        failed=batch.failed,
        canceled=batch.canceled,
        in_flight=in_flight,
        waiting=max(left - in_flight, 0),
        unknown_creates=batch.unknown_creates,
        **_spending(batch),
        dead_letters=list(dead),
        stuck=stuck,
        created_at=timestamp(batch.created_at),
        finished_at=timestamp(batch.finished_at) if batch.finished_at else None,
        rate_per_minute=rate,
        eta=round(left / rate * 60, 1) if rate and not batch.finished_at else None,
        workers=await account.workers(),
    )


def _spending(batch: Batch) -> dict[str, Any]:
    return {
        "output_lost": batch.outputs_lost,
        "empty": batch.empty,
        "unsaved": batch.unsaved,
        "unsaved_host": batch.unsaved_host,
        "aborted": batch.aborted,
        "over_budget": batch.over_budget,
        "predictions": batch.predictions,
        "max_predictions": batch.max_predictions,
        "cost": None if batch.max_cost is None and not batch.cost else dollars(batch.cost),
        "max_cost": None if batch.max_cost is None else dollars(batch.max_cost),
        "max_in_flight": batch.max_in_flight,
    }


def _state(batch: Batch, *, paused: bool, started: bool) -> State:
    if batch.finished_at:
        return "canceled" if batch.cancel_requested else "finished"
    if paused:
        return "paused"
    return "running" if started else "queued"


def _reason(batch: Batch, pause: str | None, trouble: str | None) -> str | None:
    if batch.finished_at:
        return None
    if batch.cancel_requested:
        return "is being canceled"
    return pause or trouble or _short_deadline(batch)


def _short_deadline(batch: Batch) -> str | None:
    """Why predictions end before they start, which costs nothing but time."""
    if not batch.aborted:
        return None
    return (
        f"{batch.aborted} prediction{'s' if batch.aborted > 1 else ''} of {batch.aborted_model} did not start before "
        "the deadline: BATCH_DEADLINE is too short for this model"
    )
