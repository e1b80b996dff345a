"""Creating the prediction of an attempt, once: intend → POST → record, and a search when the answer was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from jobs.errors import (
    AccountRefused,
    BatchError,
    Blocked,
    InvalidRequest,
    NotFound,
    NotSent,
    RateLimited,
    ReplicateError,
    Unanswered,
)
from jobs.replicate_api.predictions import CREATE_TIMEOUT, Prediction
from jobs.state.ledger import Claimed, Entry, OverBudget, Overtaken, Served
from worker.backoff import Backoff
from worker.context import Work
from worker.limits.circuit_breaker import ModelPaused
from worker.prompt.cost import price
from worker.prompt.retry_policy import SOON

logger = logging.getLogger(__name__)
T = TypeVar("T")

SURE_AFTER = 30.0
"""Seconds past a create's own time after which a prediction that no sweep shows does not exist."""

SEARCHABLE = 55 * 60.0
"""Seconds after which a prediction can be found no more: Replicate removes inputs after an hour."""

MAX_UNKNOWN = 3
"""How often an intent that nobody can find is replaced, in all attempts of a prompt."""

CANCEL_TRIES = 6

AWAY = Backoff(cap=10.0)
"""Between creates that could not be sent: the gate keeps their rate, and all go on soon when the API is back."""

BLOCKED = Backoff(base=5.0, cap=60.0)
"""Before a prompt that met a block page is created again: it may be the only one, so others go first."""

ONCE_MORE_AFTER = 5.0
"""Seconds after which a model that has worked, and is said not to exist, is asked for once more."""

STOP_PATIENCE = 10.0
"""Seconds that a create under way may take when its worker stops; after that it is left to a search."""


class Refused(Exception):
    """No prediction will come of this attempt; `entry` is the prompt's after it, `error` says why."""

    def __init__(self, entry: Entry, error: BatchError) -> None:
        self.entry, self.error = entry, error
        super().__init__(str(error))


class Postponed(Exception):
    """Nothing was created: a limit of the batch or the breaker of the model came between; `entry` is as it was."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        super().__init__("it has to wait again")


class _Unknown(Unanswered):
    """Nobody knows whether the POST of `entry` created a prediction."""

    def __init__(self, entry: Entry, error: Unanswered) -> None:
        self.entry = entry
        super().__init__(str(error), status=error.status)


class _Doubtful(Exception):
    """A model that has worked was not found: perhaps it is there in a moment."""


class _Swapped(Exception):
    """The search of an equal prompt took the prediction of `entry`; there may be one to take for it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        super().__init__("an equal prompt took its prediction")


async def create(work: Work, entry: Entry) -> tuple[Entry, Prediction | None]:
    """Bring about the next prediction of the prompt; an ambiguous `entry` (searched for in vain) is replaced.

    Waits out limits, pauses and an API that is away. Raises Refused when this prompt will never work or too many
    creates ended nobody knows how, Postponed, Overtaken when another worker moved the prompt on.
    """
    tries, doubted = 0, False
    while entry.prediction_id is None:
        tries += 1
        try:
            async with work.worker.posts.turn(work.order):
                _look_ahead(work, entry)
                async with work.worker.gate.passing("create", work.prompt.model, work.name, work.order):
                    return await _uninterrupted(work, _post_and_record(work, entry, doubted=doubted))
        except ModelPaused as paused:
            raise Postponed(entry) from paused
        except OverBudget as over:
            work.worker.short_of_budget.add(work.shard.batch_id)
            raise Postponed(entry) from over
        except (RateLimited, AccountRefused):
            entry = await _between_attempts(work)  # the gate holds everybody back; this prompt waits there again
        except (NotSent, _Doubtful) as error:
            logger.debug("%s: not created, trying on: %s", work.name, error)
            entry, doubted = await _between_attempts(work), doubted or isinstance(error, _Doubtful)
            await asyncio.sleep(_rest(error, tries))
        except (_Unknown, _Swapped) as unknown:
            logger.warning("? %s: looking for its prediction: %s", work.name, unknown)
            entry = await search(work, unknown.entry)
    return entry, None


def _rest(error: Exception, tries: int) -> float:
    """Seconds until a prompt whose create had no effect is created again."""
    if isinstance(error, _Doubtful):
        return ONCE_MORE_AFTER
    return (BLOCKED if isinstance(error, Blocked) else AWAY).delay(tries)


def _look_ahead(work: Work, entry: Entry) -> None:
    """Raise Refused or Postponed for what must not be created, before it takes a start time that others can use."""
    if entry.unknown_creates + entry.ambiguous > MAX_UNKNOWN:
        message = f"{MAX_UNKNOWN + 1} creates were never answered, and their predictions cannot be found"
        raise Refused(entry, Unanswered(message))
    refuse_missing_model(work, entry)
    if work.shard.batch_id in work.worker.short_of_budget or work.worker.folders.own_trouble(work.folder.path):
        raise Postponed(entry)


def refuse_missing_model(work: Work, entry: Entry) -> None:
    """Raise Refused for another prompt of a model that does not exist, asking nobody."""
    if error := work.worker.refused_rows.missing(work.shard, work.prompt.model):
        raise Refused(entry, error)


async def _between_attempts(work: Work) -> Entry:
    """The prompt's entry after its intent was withdrawn."""
    entry = await work.ledger.read()
    if entry.nonce:
        raise Overtaken(f"{work.name}: another worker goes on with it")
    return entry


async def search(work: Work, entry: Entry) -> Entry:
    """Adopt the prediction that an unanswered create may have made.

    Returns the entry with its prediction, or unchanged when by all that can be known there is none.
    """
    worker, tries = work.worker, 0
    patience = CREATE_TIMEOUT + worker.config.prefer_wait
    while (entry := await _as_now(work, entry)).ambiguous:
        age = await work.ledger.age(entry)
        if age > SEARCHABLE:
            break
        intended_at = time.time() - age
        try:
            found = await worker.orphans.sweep(work.prompt, intended_at, intended_at + patience)
        except ReplicateError as error:
            logger.debug("%s: the list cannot be read, trying on: %s", work.name, error)
        else:
            for prediction_id in await work.ledger.unclaimed(found):
                with suppress(Claimed):
                    logger.info("+ %s: adopts prediction %s", work.name, prediction_id)
                    return await work.ledger.record(entry, prediction_id)
            if age > patience + SURE_AFTER:
                break
        tries += 1
        with worker.waits.on(work.name, "search"):
            await asyncio.sleep(SOON.delay(min(tries, 4)))
    return entry


async def _as_now(work: Work, entry: Entry) -> Entry:
    """The entry, with the answer that may have come meanwhile to one who stalled; Overtaken if it has moved on."""
    now = await work.ledger.read()
    if now.nonce != entry.nonce:
        raise Overtaken(f"{work.name}: another worker goes on with it")
    return now


async def _post_and_record(work: Work, entry: Entry, *, doubted: bool) -> tuple[Entry, Prediction]:
    started = time.monotonic()
    work.demand_lease()
    if work.limited and not await work.worker.places.try_acquire(work.shard, work.prompt.index):
        raise Postponed(entry)
    intent = await work.ledger.intend(entry, price(work), replace=entry.ambiguous)
    try:
        _refuse_after_stall(started)
        prediction = await work.worker.replicate.create(work.prompt.model, work.prompt.input)
    except Unanswered as error:
        raise _Unknown(intent, error) from error
    except ReplicateError as error:
        await _end_intent(work, intent, error, doubted=doubted)
        raise
    try:
        recorded = await work.ledger.record(intent, prediction.id)
    except Claimed as error:
        raise _Swapped(intent) from error
    except Served:
        _keep(work, asyncio.create_task(_offer(work, prediction.id)))
        raise
    except Overtaken:
        await cancel_orphan(work, prediction.id)
        raise
    await work.worker.gate.left("create", work.worker.replicate.creates_left)
    return recorded, prediction


async def _end_intent(work: Work, intent: Entry, error: ReplicateError, *, doubted: bool) -> None:
    """Withdraw an intent that created nothing; raises Refused when it never will, _Doubtful when that is not sure."""
    final: ReplicateError | None = None
    if isinstance(error, Blocked) and work.worker.gate.is_blocked_alone(work.name):
        final = _only_this(error)
    elif isinstance(error, NotFound | InvalidRequest):
        final = error
    if final and isinstance(error, NotFound) and not doubted and await _has_worked(work):
        await work.ledger.withdraw(intent)
        raise _Doubtful(str(error)) from error
    if final:
        raise Refused(await work.ledger.close(intent, how="refused"), final) from error
    await work.ledger.withdraw(intent)


def _only_this(error: Blocked) -> InvalidRequest:
    message = f"{error}; others pass, so it is this prompt's input that is blocked on the way"
    return InvalidRequest(message, status=error.status or 403)


async def _has_worked(work: Work) -> bool:
    return await work.worker.refused_rows.has_worked(work.shard, work.prompt.model)


def _refuse_after_stall(started: float) -> None:
    """Send nothing on an old intent: another worker may have searched for it and replaced it meanwhile."""
    if time.monotonic() - started > CREATE_TIMEOUT:
        raise NotSent("this worker stalled before it could send the request")


async def _offer(work: Work, prediction_id: str) -> None:
    """Leave a prediction to the equal prompt that lost its own; if none has taken it after a while, cancel it."""
    await work.worker.leases.sleep(CREATE_TIMEOUT + work.worker.config.prefer_wait + SURE_AFTER)
    await cancel_orphan(work, prediction_id)


async def cancel_orphan(work: Work, prediction_id: str) -> None:
    """End a prediction that came too late to serve its prompt, unless an equal prompt has adopted it."""
    if await work.ledger.disown(prediction_id):
        logger.warning("! %s: prediction %s came too late and is canceled", work.name, prediction_id)
        await cancel_prediction(work, prediction_id)


async def cancel_prediction(work: Work, prediction_id: str) -> None:
    """Ask Replicate to end a prediction, until it answers; what it refuses is left to end by itself."""
    for tries in range(1, CANCEL_TRIES + 1):
        try:
            async with work.worker.gate.passing("read"):
                await work.worker.replicate.cancel(prediction_id)
        except (RateLimited, NotSent, Unanswered, AccountRefused) as error:
            logger.info("prediction %s could not be canceled, trying on: %s", prediction_id, error)
            await asyncio.sleep(SOON.delay(tries))
        except ReplicateError as error:
            logger.warning("! prediction %s cannot be canceled: %s", prediction_id, error)
            return
        else:
            return
    logger.warning("! prediction %s could not be canceled; it ends by its deadline", prediction_id)


async def _uninterrupted(work: Work, create: Coroutine[Any, Any, T]) -> T:
    """Let a create end even when its prompt is cancelled: one that is cut short is ambiguous."""
    task = asyncio.create_task(create)
    _keep(work, task)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=STOP_PATIENCE)
        if not task.cancel():
            task.exception()  # retrieved: whoever takes the prompt up reads the ledger
        raise


def _keep(work: Work, task: asyncio.Task[Any]) -> None:
    work.worker.creates.add(task)
    task.add_done_callback(work.worker.creates.discard)
