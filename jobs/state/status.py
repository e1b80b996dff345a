"""The status of a batch, from its counters, its pace and its account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.account.account import Account
from jobs.prices.money import dollars
from jobs.queue.dead_letters import DeadLetters, describe_dead_letters
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.waits import Waits
from jobs.wire import NO_WORKER, Batch, State, Status, timestamp


async def read_status(redis: Redis, batch: Batch) -> Status:
    """Read what `status` shows of a batch; `eta` in seconds, None when nothing is being settled."""
    batches, account = Batches(redis), Account(redis, batch.api_host)
    in_flight = await batches.in_flight(batch.name)
    rate = await batches.rate_per_minute(batch.name)
    pauses = [reason for reason in (await account.pause_reason(), batch.paused) if reason is not None]
    left = batch.total - batch.settled
    dead = await DeadLetters(redis).of(batch.name) if left else {}
    stuck = bool(dead) and not await Queue(redis, batch.api_host).jobs(batch.name)
    workers, reasons = await account.workers(), await _reasons(redis, batch, pauses, dead)
    goes_on = workers and not pauses and (in_flight or not reasons) and not await account.trouble()
    return Status(
        batch=batch.name,
        state=_state(batch, paused=bool(pauses), started=bool(in_flight or batch.settled)),
        reason="; ".join(reasons) or None,
        reasons=reasons,
        total=batch.total,
        in_flight=in_flight,
        waiting=max(left - in_flight, 0),
        **_counts(batch),
        dead_letters=list(dead),
        stuck=stuck,
        created_at=timestamp(batch.created_at),
        finished_at=timestamp(batch.finished_at) if batch.finished_at else None,
        rate_per_minute=rate,
        eta=round(left / rate * 60, 1) if rate and goes_on and not batch.finished_at else None,
        workers=workers,
        api_host=batch.api_host,
    )


def _counts(batch: Batch) -> dict[str, Any]:
    return {
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "canceled": batch.canceled,
        "unknown_creates": batch.unknown_creates,
        "output_lost": batch.outputs_lost,
        "empty": batch.empty,
        "unsaved": batch.unsaved,
        "unsaved_host": batch.unsaved_host,
        "aborted": batch.aborted,
        "over_budget": batch.over_budget,
        "predictions": batch.predictions,
        "max_predictions": batch.max_predictions,
        "cost": None if batch.max_cost is None and not batch.cost else dollars(batch.cost),
        "cost_is_partial": bool(batch.cost and batch.unpriced),
        "max_cost": None if batch.max_cost is None else dollars(batch.max_cost),
        "model_costs": {model: dollars(cost) for model, cost in sorted(batch.model_costs.items())},
        "max_in_flight": batch.max_in_flight,
        "paused": batch.paused,
    }


def _state(batch: Batch, *, paused: bool, started: bool) -> State:
    if batch.finished_at:
        return "canceled" if batch.cancel_requested else "finished"
    if paused:
        return "paused"
    return "running" if started else "queued"


async def _reasons(redis: Redis, batch: Batch, pauses: list[str], dead: Mapping[str, str]) -> list[str]:
    """Everything that makes prompts of an unfinished batch wait: the account's reasons, then the batch's own."""
    if batch.finished_at:
        return []
    if batch.cancel_requested:
        return ["is being canceled"]
    if pauses:
        return pauses
    account = Account(redis, batch.api_host)
    paused_models = await account.paused_models()
    found = [await account.trouble() or await account.notice(), *await account.throttling()]
    found += [wait.sentence(paused_models) for wait in await Waits(redis).of(batch.name)]
    found.append(describe_dead_letters(batch.name, dead, batch.total) if dead else None)
    reasons = list(dict.fromkeys(filter(None, found)))
    if not reasons and batch.aborted:
        return [_short_deadline(batch)]
    return reasons if reasons or await account.workers() else [NO_WORKER]


def _short_deadline(batch: Batch) -> str:
    """Why predictions end before they start, which costs nothing but time."""
    return (
        f"{batch.aborted} prediction{'s' if batch.aborted > 1 else ''} of {batch.aborted_model} did not start before "
        "the deadline: BATCH_DEADLINE is too short for this model"
    )
