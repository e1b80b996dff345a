"""The path of one prompt: from its place in the ledger to a settled result on disk."""

from __future__ import annotations

import asyncio
import logging
import time

from redis.exceptions import RedisError

from jobs.errors import InvalidRequest, NotFound, OutputError, ReplicateError, Unanswered
from jobs.ledger import Entry, Overtaken
from jobs.models import Failure, Result
from worker.context import Work
from worker.creation import create, search
from worker.replicate import Prediction
from worker.retry import SOON, GiveUp, Verdict, classify, classify_error, decide
from worker.saving import commit_failure, recorded, save

logger = logging.getLogger("worker.predict")


async def predict(work: Work, *, canceled: bool = False) -> None:
    """Bring one prompt to its settled result; raises nothing but CancelledError and what Redis does."""
    started = time.monotonic()
    while not await work.worker.batches.is_settled(work.shard.batch, work.prompt.index):
        try:
            result = await asyncio.to_thread(recorded, work) or await (abandon(work) if canceled else attempt(work))
        except Overtaken as overtaken:
            logger.info("? %s: %s; looking again", work.name, overtaken)
            await asyncio.sleep(SOON.delay(1))
        except RedisError:
            raise
        except Exception as error:  # whatever it is, it ends this prompt and no other
            logger.exception("! %s: failed unexpectedly", work.name)
            failure = Failure(kind="internal", message=f"{type(error).__name__}: {error}")
            await settle(work, await commit_failure(work, await work.ledger.read(), failure), started)
        else:
            await settle(work, result, started)


async def attempt(work: Work) -> Result:
    """Make attempts until one succeeds and is saved, or the retry policy gives up."""
    entry = await work.ledger.read()
    while True:
        prediction: Prediction | None = None
        try:
            entry, prediction = await predicted(work, entry)
            if prediction.status == "succeeded" and not prediction.data_removed:
                return await save(work, entry, prediction)
            verdict = judge(prediction)
        except (NotFound, InvalidRequest, Unanswered, OutputError) as error:
            verdict = classify_error(error)
        entry = await work.ledger.read()
        decision = decide(verdict, entry.attempt, work.worker.config.max_attempts)
        if isinstance(decision, GiveUp):
            return await commit_failure(work, entry, decision.failure, prediction)
        logger.info("↻ %s: %s; again in %.1f s", work.name, decision.failure.message, decision.delay)
        entry = await work.ledger.close(entry)
        await asyncio.sleep(decision.delay)


async def predicted(work: Work, entry: Entry) -> tuple[Entry, Prediction]:
    """The ended prediction of an attempt: the one that is running already, or a new one in an in-flight slot."""
    poller = work.worker.poller
    if entry.ambiguous:
        entry = await search(work, entry)
    if entry.prediction_id:
        return entry, await poller.wait(entry.prediction_id, await work.intended_at(entry))
    async with work.worker.slots:
        entry, prediction = await create(work, entry)
        if prediction is None or not prediction.terminal:
            prediction = await poller.wait(str(entry.prediction_id), await work.intended_at(entry))
    return entry, prediction


def judge(prediction: Prediction) -> Verdict:
    """Why a prediction gave nothing to save."""
    if not prediction.terminal:
        message = f"still {prediction.status!r} a minute after its deadline"
        return Verdict(Failure(kind="interrupted", message=message), SOON)
    return classify(prediction.status, prediction.error, data_removed=prediction.data_removed)


async def abandon(work: Work) -> Result:
    """End what a canceled batch left of a prompt: an open create first ends, and is then canceled at Replicate."""
    entry, prediction = await work.ledger.read(), None
    if entry.ambiguous:
        entry = await search(work, entry)
    if entry.prediction_id:
        try:
            prediction = await end(work, entry.prediction_id, await work.intended_at(entry))
            if prediction.status == "succeeded" and not prediction.data_removed:
                return await save(work, entry, prediction)
        except (NotFound, OutputError) as error:
            logger.info("%s: nothing to save: %s", work.name, error)
    failure = Failure(kind="canceled", message="the batch was canceled")
    return await commit_failure(work, entry, failure, prediction, outcome="canceled")


async def end(work: Work, prediction_id: str, since: float) -> Prediction:
    """Ask Replicate to cancel a prediction, and wait until it has ended in whatever way."""
    try:
        async with work.worker.gate.passing("read"):
            await work.worker.replicate.cancel(prediction_id)
    except ReplicateError as error:
        logger.info("%s: prediction %s could not be canceled: %s", work.name, prediction_id, error)
    return await work.worker.poller.wait(prediction_id, since)


async def settle(work: Work, result: Result, started: float | None = None) -> None:
    """Count the result, once however often it is found, and say so in one line."""
    if not await work.worker.batches.settle(work.shard.batch, work.prompt.index, result.status):
        return
    seconds = time.monotonic() - started if started else 0.0
    if result.error:
        logger.info(
            "%6.2fs ! %s %s: %s: %s", seconds, work.name, result.status, result.error.kind, result.error.message
        )
    else:
        logger.info("%6.2fs ← %s ● %d files", seconds, work.name, len(result.files))
