"""The prediction of an attempt, created once: intend → POST → record, and a search when the answer was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from jobs.errors import (
    AccountRefused,
    BatchError,
    Blocked,
    InputFileError,
    InvalidRequest,
    NotFound,
    NotSent,
    OverBudget,
    RateLimited,
    ReplicateError,
    Unanswered,
)
from jobs.replicate_api.files import without_signatures
from jobs.replicate_api.predictions import Prediction
from jobs.state.ledger import Claimed, Entry, Overtaken, Served
from worker.background import finish_despite_cancel
from worker.backoff import Backoff
from worker.context import Work
from worker.limits.circuit_breaker import MustWait
from worker.prompt.admission import Permit, attached, permit
from worker.prompt.cost import price
from worker.prompt.retry_policy import SOON
from worker.telemetry import metrics
from worker.telemetry.steps import step
from worker.timing import Timing

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_UNKNOWN = 3
"""How often an intent that nobody can find is replaced, in all attempts of a prompt."""

CANCEL_TRIES = 6

AWAY = Backoff(cap=10.0)
"""Between creates that could not be sent: the gate keeps their rate, and all go on soon when the API is back."""

BLOCKED = Backoff(base=5.0, cap=60.0)
"""Before a prompt that met a block page is created again: it may be the only one, so others go first."""


class Created(NamedTuple):
    """There is a prediction; None: it was found, or is in the ledger since before."""

    entry: Entry
    prediction: Prediction | None


class Refused(NamedTuple):
    """No prediction will come of this attempt; `entry` is the prompt's after it."""

    entry: Entry
    error: BatchError


class Postponed(NamedTuple):
    """Nothing was created, because a limit was reached meanwhile: the prompt needs a new permit."""

    entry: Entry


class _Again(NamedTuple):
    """Nothing was created, but may be by the next request. NotFound: of a model that has worked and may come back."""

    error: ReplicateError


class _Search(NamedTuple):
    """The intent has no prediction that is known: its answer was lost, or an equal prompt's search took it."""

    intent: Entry


class _NotCreated(Exception):
    """The API's answer ended the intent; an exception, since the gate must not take it for its own."""

    def __init__(self, outcome: Refused | _Again) -> None:
        self.outcome = outcome
        super().__init__(str(outcome.error))


class _Unknown(Unanswered):
    """Nobody knows whether the POST of `intent` created a prediction."""

    def __init__(self, intent: Entry, error: Unanswered) -> None:
        self.intent = intent
        super().__init__(str(error), status=error.status, retry_after=error.retry_after)


@asynccontextmanager
async def open_attempt(work: Work, entry: Entry) -> AsyncIterator[Created | Refused]:
    """The prompt's open attempt, or a new one; in the block its prediction counts as in flight.

    An ambiguous entry is searched for first. Overtaken when another worker moved the prompt on.
    """
    async with AsyncExitStack() as held:
        yield await _open(work, entry, held)


async def _open(work: Work, entry: Entry, held: AsyncExitStack) -> Created | Refused:
    if entry.ambiguous:
        entry = await search(work, entry)
    while entry.prediction_id is None:
        if refused := _refuse_in_vain(work, entry):
            return refused
        try:
            granted = await held.enter_async_context(permit(work, entry))
        except (OverBudget, InputFileError) as error:
            return Refused(entry, error)
        match outcome := await create(work, granted):
            case Created():
                granted.note_created()
                return outcome
            case Refused():
                await work.worker.refused_rows.note_refused(work.shard, work.prompt.model, outcome.error)
                return outcome
        entry = outcome.entry
        await held.aclose()
    await held.enter_async_context(attached(work))
    return Created(entry, None)


@step("create")
async def create(work: Work, permit: Permit) -> Created | Refused | Postponed:
    """Bring about the next prediction of the prompt; an ambiguous entry (searched for in vain) is replaced.

    Waits out limits, pauses and an API that is away. Overtaken when another worker moved the prompt on.
    """
    entry, tries, doubted = permit.entry, 0, False
    while entry.prediction_id is None:
        tries += 1
        outcome = await _request(work, permit, entry, doubted=doubted)
        match outcome:
            case _Search():
                entry = await search(work, outcome.intent)
            case _Again():
                logger.debug("%s: not created, retrying: %s", work.name, outcome.error)
                entry, doubted = await _between_attempts(work), doubted or isinstance(outcome.error, NotFound)
                await asyncio.sleep(_rest(work.worker.timing, outcome.error, tries))
            case _:
                return outcome
    return Created(entry, None)


async def _request(
    work: Work, permit: Permit, entry: Entry, *, doubted: bool
) -> Created | Refused | Postponed | _Again | _Search:
    """Make one POST, unless a limit or a refusal comes between."""
    try:
        async with permit.connection():
            if stop := _refusal(work, entry) or (permit.is_outdated() and Postponed(entry)):
                return stop
            async with permit.start_time():
                return await _uninterrupted(work, _post_and_record(work, permit, entry, doubted=doubted))
    except MustWait:
        outcome: Refused | Postponed | _Again | _Search = Postponed(entry)
    except OverBudget:
        work.worker.short_of_budget.add(work.shard.batch_id)
        outcome = Postponed(entry)
    except _NotCreated as error:
        outcome = error.outcome
    except _Unknown as error:
        metrics.UNKNOWN_CREATES.inc()
        logger.warning("? %s: looking for its prediction: %s", work.name, error, extra={"event": "create_unanswered"})
        outcome = _Search(error.intent)
    except (RateLimited, AccountRefused, NotSent) as error:
        outcome = _Again(error)
    return outcome


def _rest(timing: Timing, error: ReplicateError, tries: int) -> float:
    """Seconds until a prompt whose create had no effect is created again."""
    if isinstance(error, RateLimited | AccountRefused):
        return 0.0  # the gate holds everybody back; this prompt waits there again
    if isinstance(error, NotFound):
        return timing.once_more_after
    return (BLOCKED if isinstance(error, Blocked) else AWAY).delay(tries, timing.jitter)


def _refusal(work: Work, entry: Entry) -> Refused | None:
    """Why the prompt must not be created any more, if so: known before it takes a start time that others can use."""
    if entry.unknown_creates + entry.ambiguous > MAX_UNKNOWN:
        message = f"{MAX_UNKNOWN + 1} creates were never answered, and their predictions cannot be found"
        return Refused(entry, Unanswered(message))
    return _refuse_in_vain(work, entry)


def _refuse_in_vain(work: Work, entry: Entry) -> Refused | None:
    """Refuse a prompt without a request: its model does not exist, or a secret of its input is not set here."""
    missing_model = work.worker.refused_rows.missing(work.shard, work.prompt.model)
    error = missing_model or work.worker.secrets.check(work.prompt.input)
    return Refused(entry, error) if error else None


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
    worker, timing, tries = work.worker, work.worker.timing, 0
    patience = timing.create_timeout + worker.config.prefer_wait
    while (entry := await _as_now(work, entry)).ambiguous:
        age = await work.ledger.age(entry)
        if age > timing.searchable:
            break
        intended_at = time.time() - age
        try:
            uploads = await worker.uploads.ids(work.shard, work.prompt)
            found = await worker.orphans.find(work.prompt, intended_at, intended_at + patience, uploads)
        except ReplicateError as error:
            logger.debug("%s: the list cannot be read, retrying: %s", work.name, error)
        else:
            for prediction_id in found:
                with suppress(Claimed):
                    logger.info(
                        "+ %s: adopts prediction %s",
                        work.name,
                        prediction_id,
                        extra={"event": "prediction_adopted", "prediction": prediction_id},
                    )
                    return await work.ledger.record(entry, prediction_id)
            if age > patience + timing.sure_after:
                break
        tries += 1
        with worker.waits.on(work.name, "search"):
            await asyncio.sleep(SOON.delay(min(tries, 4), timing.jitter))
    return entry


async def _as_now(work: Work, entry: Entry) -> Entry:
    """The entry, with the answer that may have come meanwhile to one who stalled; Overtaken if it has moved on."""
    now = await work.ledger.read()
    if now.nonce != entry.nonce:
        raise Overtaken(f"{work.name}: another worker goes on with it")
    return now


async def _post_and_record(work: Work, permit: Permit, entry: Entry, *, doubted: bool) -> Created | _Search:
    started = time.monotonic()
    intent = await _intend(work, permit, entry)
    try:
        _refuse_after_stall(work, started)
        sent = work.worker.secrets.resolve(permit.input)
        prediction = work.mask(await work.worker.replicate.create(work.prompt.model, sent))
    except ReplicateError as error:
        work.masking.mask_error(error)
        error.args = without_signatures(error.args)
        if isinstance(error, Unanswered):
            raise _Unknown(intent, error) from error
        permit.kept = False  # no prediction is in flight
        await _end_intent(work, intent, error, doubted=doubted)
        raise
    try:
        recorded = await work.ledger.record(intent, prediction.id)
    except Claimed:
        return _Search(intent)
    except Served:
        _keep(work, asyncio.create_task(_offer(work, prediction.id)))
        raise
    except Overtaken:
        await cancel_orphan(work, prediction.id)
        raise
    metrics.count_attempt(work.prompt.model)
    await work.worker.gate.heed_remaining("create", work.worker.replicate.creates_left)
    return Created(recorded, prediction)


async def _intend(work: Work, permit: Permit, entry: Entry) -> Entry:
    work.check_lease()
    permit.keep()
    try:
        return await work.ledger.intend(entry, price(work), replace=entry.ambiguous)
    except OverBudget:
        permit.kept = False
        raise


async def _end_intent(work: Work, intent: Entry, error: ReplicateError, *, doubted: bool) -> None:
    """Withdraw an intent that created nothing; _NotCreated when it never will, or when that is not certain."""
    final: ReplicateError | None = None
    if isinstance(error, Blocked) and work.worker.gate.is_itself_blocked(work.name):
        final = _only_this(error)
    elif isinstance(error, NotFound | InvalidRequest):
        final = error
    if final and isinstance(error, NotFound) and not doubted and await _has_worked(work):
        await work.ledger.withdraw(intent)
        raise _NotCreated(_Again(error)) from error
    if final:
        raise _NotCreated(Refused(await work.ledger.close(intent, how="refused"), final)) from error
    await work.ledger.withdraw(intent)


def _only_this(error: Blocked) -> InvalidRequest:
    message = f"{error}; others pass, so it is this prompt's input that is blocked on the way"
    return InvalidRequest(message, status=error.status or 403)


async def _has_worked(work: Work) -> bool:
    return await work.worker.refused_rows.has_worked(work.shard, work.prompt.model)


def _refuse_after_stall(work: Work, started: float) -> None:
    """Send nothing on an old intent: another worker may have searched for it and replaced it meanwhile."""
    if time.monotonic() - started > work.worker.timing.create_timeout:
        raise NotSent("this worker stalled before it could send the request")


async def _offer(work: Work, prediction_id: str) -> None:
    """Leave a prediction to the equal prompt that lost its own; if none has taken it after a while, cancel it."""
    timing = work.worker.timing
    await work.worker.leases.sleep(timing.create_timeout + work.worker.config.prefer_wait + timing.sure_after)
    await cancel_orphan(work, prediction_id)


async def cancel_orphan(work: Work, prediction_id: str) -> None:
    """End a prediction that came too late to serve its prompt, unless an equal prompt has adopted it."""
    if await work.worker.claims.disown(prediction_id):
        logger.warning(
            "! %s: prediction %s came too late and is canceled",
            work.name,
            prediction_id,
            extra={"event": "prediction_too_late", "prediction": prediction_id},
        )
        await cancel_prediction(work, prediction_id)


async def cancel_open(work: Work) -> Entry:
    """Cancel the prediction of the prompt's open attempt, searched for if need be; return the prompt's entry."""
    entry = await work.ledger.read()
    if entry.ambiguous:
        entry = await search(work, entry)
    if entry.prediction_id:
        await cancel_prediction(work, entry.prediction_id)
    return entry


async def cancel_prediction(work: Work, prediction_id: str) -> None:
    """Ask Replicate to end a prediction, until it answers; what it refuses is left to end by itself."""
    for tries in range(1, CANCEL_TRIES + 1):
        try:
            async with work.worker.gate.request("read"):
                await work.worker.replicate.cancel(prediction_id)
        except (RateLimited, NotSent, Unanswered, AccountRefused) as error:
            logger.info("prediction %s could not be canceled, retrying: %s", prediction_id, error)
            await asyncio.sleep(SOON.delay(tries, work.worker.timing.jitter))
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
    return await finish_despite_cancel(task, within=work.worker.timing.stop_patience)


def _keep(work: Work, task: asyncio.Task[Any]) -> None:
    work.worker.creates.add(task)
    task.add_done_callback(work.worker.creates.discard)
