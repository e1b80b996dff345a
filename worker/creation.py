"""Creating the prediction of an attempt, once: intend → POST → record, and a search when the answer was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from jobs.errors import AccountRefused, InvalidRequest, NotFound, NotSent, RateLimited, ReplicateError, Unanswered
from jobs.ledger import Claimed, Entry, Overtaken
from worker.context import Work
from worker.replicate import CREATE_TIMEOUT, Prediction
from worker.retry import SOON

logger = logging.getLogger("worker.creation")
T = TypeVar("T")

SURE_AFTER = 30.0
"""Seconds past a create's own time after which a prediction that no sweep shows does not exist."""

SEARCHABLE = 55 * 60.0
"""Seconds after which a prediction can be found no more: Replicate removes inputs after an hour."""

MAX_UNKNOWN = 3
"""How often an intent that nobody can find is replaced, in all attempts of a prompt."""

STOP_PATIENCE = 10.0
"""Seconds that a create under way may take when its worker stops; after that it is left to a search."""


async def create(work: Work, entry: Entry) -> tuple[Entry, Prediction | None]:
    """Bring about the next prediction of the prompt; an ambiguous `entry` (searched for in vain) is replaced.

    Waits out limits, pauses and an API that is away. Raises NotFound or InvalidRequest when this prompt will never
    work, Unanswered when too many creates ended nobody knows how, Overtaken when another worker moved the prompt on.
    """
    tries = 0
    while entry.prediction_id is None:
        if entry.ambiguous and entry.unknown_creates >= MAX_UNKNOWN:
            raise Unanswered(f"{MAX_UNKNOWN + 1} creates were never answered, and their predictions cannot be found")
        tries += 1
        try:
            async with work.worker.gate.passing("create"), work.worker.posts:
                return await _uninterrupted(work, _post_and_record(work, entry))
        except (RateLimited, AccountRefused):
            entry = await work.ledger.read()  # the gate holds everybody back; this prompt waits there again
        except NotSent as error:
            logger.warning("! %s: the API cannot be reached, trying on: %s", work.name, error)
            entry = await work.ledger.read()
            await asyncio.sleep(SOON.delay(tries))
        except Unanswered as error:
            logger.warning("? %s: a create was not answered, looking for its prediction: %s", work.name, error)
            entry = await search(work, await work.ledger.read())
    return entry, None


async def search(work: Work, entry: Entry) -> Entry:
    """Adopt the prediction that an unanswered create may have made.

    Returns the entry with its prediction, or unchanged when by all that can be known there is none.
    """
    worker, tries = work.worker, 0
    patience = CREATE_TIMEOUT + worker.config.prefer_wait
    while entry.ambiguous:
        age = await work.ledger.age(entry)
        if age > SEARCHABLE:
            break
        intended_at = time.time() - age
        try:
            found = await worker.orphans.sweep(work.prompt, intended_at, intended_at + patience)
        except ReplicateError as error:
            logger.warning("! %s: the list cannot be read, trying on: %s", work.name, error)
        else:
            for prediction_id in await work.ledger.unclaimed(found):
                with suppress(Claimed):
                    logger.info("+ %s: adopts prediction %s", work.name, prediction_id)
                    return await work.ledger.record(entry, prediction_id)
            if age > patience + SURE_AFTER:
                break
        tries += 1
        await asyncio.sleep(SOON.delay(min(tries, 4)))
    return entry


async def _post_and_record(work: Work, entry: Entry) -> tuple[Entry, Prediction]:
    started = time.monotonic()
    intent = await work.ledger.intend(entry, replace=entry.ambiguous)
    try:
        _refuse_after_stall(started)
        prediction = await work.worker.replicate.create(work.prompt.model, work.prompt.input)
    except (NotSent, RateLimited, AccountRefused):
        await work.ledger.withdraw(intent)
        raise
    except (NotFound, InvalidRequest):
        await work.ledger.close(intent)
        raise
    try:
        return await work.ledger.record(intent, prediction.id), prediction
    except Claimed as error:
        raise Unanswered(f"{error}: an equal prompt's search took it") from error
    except Overtaken:
        await cancel_orphan(work, prediction.id)
        raise


def _refuse_after_stall(started: float) -> None:
    """Send nothing on an old intent: another worker may have searched for it and replaced it meanwhile."""
    if time.monotonic() - started > CREATE_TIMEOUT:
        raise NotSent("this worker stalled before it could send the request")


async def cancel_orphan(work: Work, prediction_id: str) -> None:
    """End a prediction that came too late to serve its prompt, unless an equal prompt has adopted it."""
    if not await work.ledger.disown(prediction_id):
        return
    logger.warning("! %s: prediction %s came too late and is canceled", work.name, prediction_id)
    try:
        async with work.worker.gate.passing("read"):
            await work.worker.replicate.cancel(prediction_id)
    except ReplicateError as error:
        logger.warning("! orphan %s could not be canceled: %s", prediction_id, error)


async def _uninterrupted(work: Work, create: Coroutine[Any, Any, T]) -> T:
    """Let a create end even when its prompt is cancelled: one that is cut short is ambiguous."""
    task = asyncio.create_task(create)
    work.worker.creates.add(task)
    task.add_done_callback(work.worker.creates.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=STOP_PATIENCE)
        if not task.cancel():
            task.exception()  # retrieved: whoever takes the prompt up reads the ledger
        raise
