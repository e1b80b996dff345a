"""Background loops, which a failing step does not end, and tasks, which a cancel does not end."""

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
"""How long the step at the end may take; what it asks of Redis gives up sooner."""

Step = Callable[[], Awaitable[float | None]]
"""Returns the seconds until the next step, `math.inf` to be woken only, or None for the usual ones."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


@asynccontextmanager
async def every(
    seconds: float, step: Step, *, wake: asyncio.Event | None = None, at_end: Step | None = None
) -> AsyncIterator[None]:
    """Repeat `step` until the block ends, then take the step `at_end`; neither ever raises.

    `wake` cuts a rest short, but not the one after an error.
    """
    task = asyncio.create_task(_repeat(seconds, step, wake or asyncio.Event()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if at_end:
            await _take_last_step(at_end)


async def _repeat(seconds: float, step: Step, wake: asyncio.Event) -> None:
    trouble = ""
    while True:
        wake.clear()
        try:
            rest = await step()
        except (BatchError, RedisError, OSError) as error:
            trouble = _log_if_new(error, trouble)
        except Exception:
            logger.exception("! unexpected, will be retried")
        else:
            trouble = ""
            await _rest(seconds if rest is None else rest, wake)
            continue
        await asyncio.sleep(seconds)


def _log_if_new(error: Exception, before: str) -> str:
    """Log trouble unless it was logged `before`; returns what was logged last."""
    if isinstance(error, RedisError) and is_passing(error):
        return before  # the client logs that Redis is away
    trouble = str(error) or type(error).__name__
    if trouble != before:
        logger.warning("! %s; will be retried", trouble)
    return trouble


async def _rest(seconds: float, wake: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            await wake.wait()
    except TimeoutError:
        return


async def _take_last_step(step: Step) -> None:
    try:
        async with asyncio.timeout(LAST_STEP_SECONDS):
            await step()
    except (BatchError, RedisError, OSError) as error:
        logger.debug("at the end: %s", error)
    except Exception:
        logger.exception("! unexpected at the end")


async def finish_despite_cancel(
    task: asyncio.Future[T], *, within: float | None = None, on_cancel: Callable[[], None] | None = None
) -> T:
    """Return what a task does; a cancel waits for its end, and goes on then.

    With `within` it waits so many seconds and then cancels the task; after a second cancel it stops waiting, and the
    task runs on.
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
            task.exception()  # retrieved: whoever was cancelled does not want it
        raise
