"""The runs of a shard, on record from their beginning to their orderly end: a run without an end has died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from arq.worker import RetryJob
from redis.exceptions import RedisError

from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId, PayloadError
from worker.context import Context
from worker.leases import RELEASE_SECONDS

logger = logging.getLogger(__name__)


@asynccontextmanager
async def on_record(worker: Context, job: JobId, *, whole: bool = True) -> AsyncIterator[str]:
    """Note a run of the job in the block, under its lease; yields why its shard is set aside, "" when it is not.

    An error that nobody foresaw counts as the process's death, Redis's do not. A run that is not `whole` leaves the
    job to another.
    """
    letters, run, over = DeadLetters(worker.redis), worker.leases.owner, False
    reason = await letters.begin(job, run)
    try:
        yield reason
        over = whole
    except Exception as error:
        if not _foreseen(error):
            await letters.record_crash(job, run)
        raise
    finally:
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await letters.end(job, run, over=over)


async def set_aside(worker: Context, job: JobId, reason: str) -> None:
    """Make the job a dead letter: its prompts have not failed, and nobody runs it until `retry`."""
    await DeadLetters(worker.redis).move_to_dead_letters(job, reason)
    tell(job, reason)


async def set_aside_unreadable(worker: Context, job_id: str) -> None:
    """Make a job a dead letter whose payload is gone; one that is none of ours is only told of."""
    try:
        await set_aside(worker, JobId.parse(job_id), "its payload is gone from Redis")
    except PayloadError as error:
        logger.error("! dropped from the queue: %s", error)  # noqa: TRY400 - nobody here put it there


def tell(job: JobId, reason: str) -> None:
    """Say in the log that a job is a dead letter."""
    logger.error("! %s is set aside: %s. `python -m jobs retry %s` brings it back", job, reason, job.batch)


def _foreseen(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_foreseen, error.exceptions))
    return isinstance(error, RedisError | RetryJob)
