"""The path of one prompt: from its place in the ledger to a settled result on disk."""

from __future__ import annotations

import asyncio
import logging
import time

from redis.exceptions import RedisError

from jobs.errors import NotFound, OutputError, StorageError
from jobs.replicate_api.predictions import Prediction
from jobs.secret_inputs import secret_keys
from jobs.state.batches import Spent
from jobs.state.ledger import Ending, Entry, Overtaken
from jobs.state.pending import PendingPrompt, read_pending
from jobs.wire import Failure, Result
from worker.context import Work
from worker.prompt.admission import release
from worker.prompt.cost import announce_used_up, cost
from worker.prompt.create import Refused, cancel_open, cancel_prediction, open_attempt, search
from worker.prompt.retry_policy import SOON, UNFETCHED, GiveUp, Verdict, classify, classify_error, decide, model_outcome
from worker.prompt.save import commit_failure, read_record, save
from worker.telemetry import metrics
from worker.telemetry.steps import note_failure, note_prediction, note_result, of_attempt, of_prompt, step

logger = logging.getLogger(__name__)

UNEXPECTED = 2
"""How often a prompt that failed in an unforeseen way is run again."""

BATCH_CANCELED = "the batch was canceled"
CANCELED_BY_HAND = "canceled by hand"

JUST_NOW = 60.0
"""Seconds: a prediction that says it was created before that is as old as its intent; asking costs a round trip."""


@of_prompt
async def predict(work: Work, *, canceled: str | None = None) -> None:
    """Run one prompt until its result is settled, or cancel it for that reason.

    Raises only CancelledError and RedisError.
    """
    started, tries, trouble = time.monotonic(), 0, ""
    failures: list[Exception] = []
    found = work.known or await load_pending(work)
    while found is not None:
        try:
            record = None if found is work.known else await asyncio.to_thread(read_record, work)
            result = record or await run_or_fail(work, found.entry, failures, canceled=canceled)
        except Overtaken as error:
            trouble = str(error)
            logger.debug("%s: %s; trying again", work.name, error)
        except StorageError as error:
            logger.info("? %s: %s; trying again", work.name, error)
            trouble = str(error)
        except RedisError:
            raise
        except Exception as error:  # an unforeseen error is this prompt's own, and ends no other
            logger.exception("! %s: failed unexpectedly", work.name)
            failures.append(error)
            trouble = "an unexpected error, which is in the log"
        else:
            if await settle(work, result, found.retry_count, started):
                return
        tries += 1
        with work.worker.waits.on(work.name, "retry", trouble):
            await asyncio.sleep(SOON.delay(tries, work.worker.timing.jitter))
        found = await load_pending(work)


async def load_pending(work: Work) -> PendingPrompt | None:
    """What Redis knows of the prompt; None when it has its result."""
    index = work.prompt.index
    return (await read_pending(work.worker.redis, work.shard.batch, [index])).get(index)


async def run_or_fail(work: Work, entry: Entry, failures: list[Exception], *, canceled: str | None) -> Result:
    """Run or cancel a prompt that has no record; one that failed too often in an unforeseen way is ended."""
    if len(failures) > UNEXPECTED:
        return await fail_unexpectedly(work, failures[-1])
    return await (cancel_prompt(work, canceled) if canceled else attempt(work, entry))


async def attempt(work: Work, entry: Entry) -> Result:
    """Make attempts until one succeeds and is saved, or the retry policy gives up."""
    while True:
        outcome = await end_attempt(work, *await make_attempt(work, entry))
        if isinstance(outcome, Result):
            return outcome
        entry = outcome


@of_prompt
async def resume(work: Work) -> None:
    """Bring a prompt's open attempt to its end, and create nothing: a retry is left to the run of its shard."""
    found = await load_pending(work)
    if found is None:
        return
    outcome: Result | Entry | None = await asyncio.to_thread(read_record, work)
    if outcome is None:
        entry = await search(work, found.entry) if found.entry.ambiguous else found.entry
        if entry.prediction_id:
            outcome = await end_attempt(work, *await make_attempt(work, entry))
    if isinstance(outcome, Result):
        await settle(work, outcome, found.retry_count)


@of_attempt
async def make_attempt(work: Work, entry: Entry) -> tuple[Entry, Prediction | None, Result | Verdict]:
    """Make an attempt, or bring the open one to its end: its entry and prediction, and what came of it."""
    entry, ended = await run_attempt(work, entry)
    outcome = await save_or_classify(work, entry, ended)
    if isinstance(outcome, Verdict):
        note_failure(outcome.failure.kind)
    return entry, ended if isinstance(ended, Prediction) else None, outcome


async def end_attempt(
    work: Work, entry: Entry, prediction: Prediction | None, outcome: Result | Verdict
) -> Result | Entry:
    """Return an attempt's result, or close the attempt and wait until the next one may start."""
    if isinstance(outcome, Result):
        return outcome
    await work.ledger.confirm(entry)
    most, jitter = work.worker.config.max_attempts, work.worker.timing.jitter
    decision = decide(outcome, entry.attempt, most, jitter, aborted=entry.aborted)
    if isinstance(decision, GiveUp):
        return await commit_failure(work, entry, decision.failure, prediction)
    logger.info(
        "↻ %s: %s; again in %.1f s",
        work.name,
        decision.failure.message,
        decision.delay,
        extra={"event": "prompt_retried", "kind": decision.failure.kind},
    )
    metrics.RETRIES.labels(decision.failure.kind).inc()
    entry = await close_attempt(work, entry, decision.failure, prediction)
    with work.worker.waits.on(work.name, "retry", decision.failure.message):
        await asyncio.sleep(decision.delay)
    return entry


async def run_attempt(work: Work, entry: Entry) -> tuple[Entry, Prediction | Verdict]:
    """The end of an attempt: of the prediction that runs already, or of a new one."""
    async with open_attempt(work, entry) as opened:
        if isinstance(opened, Refused):
            return opened.entry, classify_error(opened.error)
        return opened.entry, await follow_or_lose(work, *opened)


async def save_or_classify(work: Work, entry: Entry, ended: Prediction | Verdict) -> Result | Verdict:
    """Save what can be saved; else say why there is nothing. The model's circuit breaker counts how it ended."""
    verdict = ended if isinstance(ended, Verdict) else judge(ended)
    if verdict and await work.worker.uploads.drop_unfetched(work.shard, work.prompt, verdict.failure.message):
        verdict = UNFETCHED
    message = verdict.failure.message if verdict else ""
    await work.worker.breaker.record_outcome(work.prompt.model, work.name, model_outcome(verdict), message)
    if isinstance(ended, Verdict):
        return verdict or ended
    metrics.count_prediction(work.prompt.model, ended)
    if verdict:
        return verdict
    try:
        return await save(work, entry, ended)
    except OutputError as error:
        return classify_error(error)


async def close_attempt(work: Work, entry: Entry, failure: Failure, prediction: Prediction | None) -> Entry:
    """End an attempt that is followed by another, and count what it came to."""
    how: Ending = failure.kind if failure.kind in ("aborted", "output_lost") else "attempt"
    return await work.ledger.close(entry, cost(work, entry, prediction), how, work.prompt.model)


async def fail_unexpectedly(work: Work, error: Exception) -> Result:
    """End a prompt that fails in an unforeseen way, and cancel its prediction at Replicate."""
    entry = await cancel_open(work)
    await _stop_counting(work)
    return await commit_failure(work, entry, Failure(kind="internal", message=f"{type(error).__name__}: {error}"))


async def follow_or_lose(work: Work, entry: Entry, prediction: Prediction | None = None) -> Prediction | Verdict:
    """Wait for the end of an entry's prediction; a verdict when Replicate does not know it."""
    try:
        return await follow(work, entry, prediction)
    except NotFound as error:
        return classify_error(error)


@step("wait")
async def follow(work: Work, entry: Entry, prediction: Prediction | None = None) -> Prediction:
    """Wait for the end of an entry's prediction; one that is overdue is canceled."""
    note_prediction(str(entry.prediction_id))
    if prediction is None or not prediction.terminal:
        since, is_private = await created_at(work, entry, prediction), bool(secret_keys(work.prompt.input))
        prediction = await work.worker.poller.wait(str(entry.prediction_id), since, is_private=is_private)
    if not prediction.terminal:
        await cancel_prediction(work, prediction.id)
    return work.mask(prediction)


async def created_at(work: Work, entry: Entry, prediction: Prediction | None) -> float:
    """When the prediction of an entry was created, or intended: Unix seconds by our clock.

    Nothing begins before its intent, whatever a foreign clock says, and nothing in the future.
    """
    now, created_at = time.time(), prediction.time("created_at") if prediction else None
    if created_at is not None and now - JUST_NOW < (since := created_at - work.worker.replicate.clock_offset):
        return min(since, now)
    return now - max(await work.ledger.age(entry), 0.0)


def judge(prediction: Prediction) -> Verdict | None:
    """Why a prediction gave nothing to save; None when it did."""
    if not prediction.terminal:
        message = f"still {prediction.status!r} a minute after its deadline"
        return Verdict(Failure(kind="interrupted", message=message), SOON)
    if prediction.status == "succeeded" and not prediction.data_removed:
        return None
    return classify(prediction.status, prediction.error, data_removed=prediction.data_removed)


async def cancel_prompt(work: Work, reason: str) -> Result:
    """End what is left of a prompt that is canceled: an open create first ends, and is then canceled at Replicate."""
    entry, prediction = await cancel_open(work), None
    if entry.prediction_id:
        try:
            prediction = await follow(work, entry)
            if judge(prediction) is None:
                return await save(work, entry, prediction, keep_trying=False)
        except (NotFound, OutputError) as error:
            logger.info("%s: nothing to save: %s", work.name, error)
    await _stop_counting(work)
    await work.ledger.confirm(entry)
    failure = Failure(kind="canceled", message=reason)
    return await commit_failure(work, entry, failure, prediction, outcome="canceled")


async def _stop_counting(work: Work) -> None:
    """Nothing of the prompt is in flight any more, and its model is not judged by it."""
    await release(work)
    await work.worker.breaker.record_outcome(work.prompt.model, work.name, "ignored")


async def settle(work: Work, result: Result, retry_count: int, started: float | None = None) -> bool:
    """Count the result of a prompt, once however often it is found, and say so in one line; True if it did."""
    shard, index = work.shard, work.prompt.index
    if not await work.worker.batches.settle(
        shard.batch, index, result.status, shard.batch_id, Spent.of(result), retry_count
    ):
        return False
    metrics.count_prompt(result)
    note_result(result)
    seconds = time.monotonic() - started if started else 0.0
    if result.error and result.error.kind == "over_budget":
        await announce_used_up(work)
    _log_result(work, result, seconds)
    return True


def _log_result(work: Work, result: Result, seconds: float) -> None:
    facts = {
        "event": f"prompt_{result.status}",
        "batch": work.shard.batch,
        "prompt": result.id,
        "model": result.model,
        "prediction": result.prediction_id,
        "seconds": round(seconds, 3),
        "cost": result.cost,
        "kind": result.error.kind if result.error else None,
        "attempt": result.attempts,
        "files": len(result.files),
        "bytes": sum(file.bytes for file in result.files),
    }
    if error := result.error:
        what = result.status if error.kind == result.status else f"{result.status}: {error.kind}"
        level = logging.WARNING if result.status == "failed" else logging.INFO
        logger.log(level, "%6.2fs ! %s %s: %s", seconds, work.name, what, error.message, extra=facts)
    else:
        logger.info("%6.2fs ← %s ● %s", seconds, work.name, _what_came(result), extra=facts)


def _what_came(result: Result) -> str:
    if result.unsaved:
        return f"{len(result.files)} of {len(result.files) + len(result.unsaved)} files"
    return {0: "text", 1: "1 file"}.get(len(result.files), f"{len(result.files)} files")
