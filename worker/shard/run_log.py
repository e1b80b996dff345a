"""The log of a shard's runs: a run that began and never ended crashed with its process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from arq.worker import RetryJob
from redis.exceptions import RedisError

from jobs.events.event import Event
from jobs.events.log import record
from jobs.notify.conditions import dead_letter_event
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId, PayloadError
from worker.context import Context
from worker.leases import RELEASE_SECONDS

logger = logging.getLogger(__name__)


@asynccontextmanager
async def record_run(worker: Context, job: JobId, *, whole: bool = True) -> AsyncIterator[str]:
    """Record a run of the job in the block, under its lease; yields why the job is a dead letter, or "".

    An unexpected error counts as a crash, one of Redis does not. After a run that is not `whole` the job runs again.
    """
    letters, run, over = DeadLetters(worker.redis), worker.leases.owner, False
    reason = await letters.begin(job, run)
    try:
        yield reason
        over = whole
    except Exception as error:
        if not _is_expected(error):
            await letters.record_crash(job, run)
        raise
    finally:
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await letters.end(job, run, over=over)


async def dead_letter(worker: Context, job: JobId, reason: str) -> None:
    """Make the job a dead letter: its prompts have not failed, but it does not run until `retry`."""
    await DeadLetters(worker.redis).move_to_dead_letters(job, reason)
    await announce_dead_letter(worker, job, reason)
    await record(worker.redis, job.batch, Event(event="warning", message=f"{job} is a dead letter: {reason}"))


async def dead_letter_unreadable(worker: Context, job_id: str) -> None:
    """Make a job whose payload is gone a dead letter; one that is not ours is only logged."""
    try:
        await dead_letter(worker, JobId.parse(job_id), "its payload is gone from Redis")
    except PayloadError as error:
        logger.error("! dropped from the queue: %s", error)  # noqa: TRY400 - it is not ours


async def announce_dead_letter(worker: Context, job: JobId, reason: str) -> None:
    """Log and announce that a job is a dead letter, and the command that brings it back."""
    logger.error(
        "! %s is a dead letter: %s. `python -m jobs retry %s` brings it back",
        job,
        reason,
        job.batch,
        extra={"event": "dead_letter", "batch": job.batch},
    )
    batch = None
    with suppress(KeyError, ValueError):  # a batch that cannot be read has dead letters, too
        batch = await worker.batches.find(job.batch)
    await worker.notifier.post(dead_letter_event(job.batch, batch.id if batch else "", str(job), reason))


def _is_expected(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, RedisError | RetryJob)
