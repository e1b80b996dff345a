"""Background loops that survive a failing step, and tasks that survive a cancel."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from redis.exceptions import RedisError

from jobs.errors import BatchError
from jobs.redis_client.outage import is_passing

LAST_STEP_SECONDS = 10.0
"""How long the last step may take; its calls to Redis give up sooner."""

Step = Callable[[], Awaitable[float | None]]
"""Returns the seconds until the next step, `math.inf` to wait for `wake`, or None for the usual pause."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


@asynccontextmanager
async def every(
    seconds: float,
    step: Step,
    *,
    wake: asyncio.Event | None = None,
    at_end: Step | None = None,
    end_within: float = LAST_STEP_SECONDS,
) -> AsyncIterator[None]:
    """Repeat `step` until the block ends, then run `at_end`; errors of both are logged, not raised.

    `wake` ends a pause early, but not the one after an error.
    """
    task = asyncio.create_task(_repeat(seconds, step, wake or asyncio.Event()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if at_end:
            await _run_last_step(at_end, end_within)


async def _repeat(seconds: float, step: Step, wake: asyncio.Event) -> None:
    logged = ""
    while True:
        wake.clear()
        try:
            pause = await step()
        except (BatchError, RedisError, OSError) as error:
            logged = _log_if_new(error, logged)
        except Exception:
            logger.exception("! unexpected, will be retried")
        else:
            logged = ""
            await _pause(seconds if pause is None else pause, wake)
            continue
        await asyncio.sleep(seconds)


def _log_if_new(error: Exception, before: str) -> str:
    """Log an error unless it was logged `before`; returns what was logged last."""
    if isinstance(error, RedisError) and is_passing(error):
        return before  # the client logs that Redis is away
    message = str(error) or type(error).__name__
    if message != before:
        logger.warning("! %s; will be retried", message)
    return message


async def _pause(seconds: float, wake: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            await wake.wait()
    except TimeoutError:
        return


async def _run_last_step(step: Step, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await step()
    except (BatchError, RedisError, OSError) as error:
        logger.debug("at the end: %s", error)
    except Exception:
        logger.exception("! unexpected at the end")


async def finish_despite_cancel(
    task: asyncio.Future[T], *, within: float | None = None, on_cancel: Callable[[], None] | None = None
) -> T:
    """Return a task's result; a cancel is raised only after the task has ended.

    With `within`, a cancel waits for so many seconds and then cancels the task; a second cancel stops waiting and
    leaves the task running.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel:
            on_cancel()
        if within is not None:
            await asyncio.wait([task], timeout=within)
        while within is None and not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancel():
            task.exception()  # retrieved, so that asyncio does not log it
        raise
