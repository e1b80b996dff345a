"""From an ended prediction to its files, while Replicate keeps them: an hour from its end."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from jobs.errors import BrokenDownload, NotFound, OutputGone, ReplicateError
from jobs.replicate_api.predictions import RETENTION, Prediction
from jobs.state.ledger import Entry
from worker.backoff import Backoff
from worker.context import Work
from worker.outputs.backlog import Unsaved
from worker.outputs.saver import Saved
from worker.prompt.retry_policy import SOON

logger = logging.getLogger(__name__)

ABSENT = Backoff(base=1.0, cap=240.0)
"""Between the looks for a file that is not there: it may not be everywhere yet, or its host may be in trouble."""

LATE = 1800.0
"""Seconds that a download which began in its hour may go on after it."""


def kept_until(work: Work, prediction: Prediction) -> float:
    """When Replicate deletes the output, in Unix seconds of our clock."""
    now, created_at = time.time(), prediction.time("created_at")
    ended_at = prediction.time("completed_at") or (created_at and created_at + work.worker.config.deadline) or now
    return min(ended_at - work.worker.replicate.clock_offset, now) + RETENTION


async def kept_after_intent(work: Work, entry: Entry, prediction: Prediction) -> float:
    """The same, by a clock that may be wrong: nothing ends before its intent."""
    until = kept_until(work, prediction)
    if until > time.time() + RETENTION / 2:
        return until
    return max(until, time.time() - await work.ledger.age(entry) + RETENTION)


async def fetch(
    work: Work, prediction: Prediction, directory: Path, unsaved: Unsaved, *, keep_trying: bool
) -> tuple[Prediction, Saved]:
    """Download an output; with `keep_trying` again and again, while it is kept, when the transfer breaks.

    So too when a file is not there (403, 404, 410): until Replicate says that it has removed it, or its hour is over.
    Each time it is looked for by the URLs that the prediction has then.
    """
    looks = 0
    while True:
        try:
            saved = await _in_time(work, prediction, directory, unsaved.kept_until)
        except BrokenDownload as error:
            if not keep_trying or time.time() > unsaved.kept_until:
                raise
            unsaved.breaking, unsaved.absent = True, False
            logger.warning("! %s: cannot be downloaded, trying on: %s", work.name, error)
        except OutputGone as error:
            if looks and (not keep_trying or time.time() > unsaved.kept_until):
                raise
            unsaved.absent, looks = True, looks + 1
            await _wait_for_file(work, error, looks, unsaved.kept_until)
            prediction = await _look_again(work, prediction, unsaved.kept_until if keep_trying else 0.0)
        else:
            _warn_of_unsaved(work, saved)
            return prediction, saved


async def _wait_for_file(work: Work, error: OutputGone, looks: int, kept_until: float) -> None:
    left = max(kept_until - time.time(), ABSENT.base)
    if looks == 1:
        logger.warning("! %s: %s; it is looked for again for %.0f min", work.name, error, left / 60)
    with work.worker.waits.on(work.name, "file", str(error)):
        await asyncio.sleep(min(ABSENT.delay(looks), left))


async def _in_time(work: Work, prediction: Prediction, directory: Path, kept_until: float) -> Saved:
    """Download once; a host that sends on and on has an end."""
    save, owner = work.worker.outputs.save, work.shard.batch_id
    try:
        async with asyncio.timeout(max(kept_until - time.time(), 0.0) + LATE):
            return await save(work.prompt.id, directory, prediction.output, owner, kept_until)
    except TimeoutError as error:
        raise BrokenDownload(f"{work.name}: not whole {LATE:.0f} s after its hour", work.name) from error


def _warn_of_unsaved(work: Work, saved: Saved) -> None:
    if saved.unsaved:
        more = f" and {len(saved.unsaved) - 1} more" if len(saved.unsaved) > 1 else ""
        logger.warning(
            "! %s: not fetched, since BATCH_OUTPUT_HOSTS does not name its host, or it is no URL: %s%s",
            work.name,
            saved.unsaved[0][:200],
            more,
        )


async def _look_again(work: Work, prediction: Prediction, until: float) -> Prediction:
    """The prediction as Replicate has it now, asked until it answers; OutputGone when it has removed the output."""
    tries = 0
    while True:
        try:
            async with work.worker.gate.passing("read"):
                found = await work.worker.replicate.get(prediction.id)
        except ReplicateError as error:
            logger.info("%s: cannot be looked up again: %s", work.name, error)
            if isinstance(error, NotFound) or time.time() > until:
                return prediction
            tries += 1
            await asyncio.sleep(SOON.delay(tries))
        else:
            if found.data_removed:
                raise OutputGone("Replicate has removed the output already", work.name)
            return found if found.status == "succeeded" else prediction
