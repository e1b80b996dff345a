"""Whether Redis answers, as this process sees it: one line when it is lost and one when it is back, whoever notices.

All patient clients report here, and no other module tells. When the process ends, their waiting is cut short.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions

LOSSES = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""No answer came; a loading server is among them, and redis-py lets out OSErrors while it connects."""

QUIET_SECONDS = 0.5
"""A connection that is lost and made again sooner is no matter."""

CALM_SECONDS = 6.0
"""Longer than between two signs of life of a worker, each of which is a write."""

FAREWELL_SECONDS, LAST_SECONDS = 3.0, 2.0

logger = logging.getLogger(__name__)

_REFUSAL = re.compile(
    r"(?:^|[-'\"]|because of: )"  # first in an answer, in a script's, in a pipeline's, in an EXEC's
    r"(?:OOM|MISCONF|READONLY|TRYAGAIN|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|BUSY|LOADING) "
)
_ANNOTATED = re.compile(r"Command # .* of pipeline caused error: \(['\"](.*)['\"],?\)", re.DOTALL)


def is_passing(error: BaseException) -> bool:
    """Tell whether Redis will answer the same command otherwise when it is well again; a refused login is no such."""
    if isinstance(error, exceptions.AuthenticationError):
        return False
    if isinstance(error, (*LOSSES, exceptions.OutOfMemoryError, exceptions.ReadOnlyError)):
        return True
    return isinstance(error, exceptions.ResponseError) and bool(_REFUSAL.search(reason(error)))


def reason(error: BaseException) -> str:
    """What Redis said, in a line: without the commands of a pipeline, which may be long."""
    text = str(error)
    if annotated := _ANNOTATED.fullmatch(text):
        text = annotated[1]
    return text.partition(" script: ")[0].partition("\n")[0][:300]


def is_news(record: logging.LogRecord) -> bool:
    """Tell, as a filter of a log, whether a record says more than that Redis is away, which is told here."""
    raised = record.exc_info[1] if record.exc_info else None
    given = record.args if isinstance(record.args, tuple) else ()
    return not any(_only_passing(error) for error in (raised, *given))


def _only_passing(error: object) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_only_passing, error.exceptions))
    return isinstance(error, exceptions.RedisError) and is_passing(error)


class OutageTracker:
    """Since when Redis has not done what it was asked, and how many calls wait for it."""

    def __init__(self) -> None:
        self.waiting = 0
        self._since: float | None = None
        self._first_missed_at = self._missed_at = self._back_at = float("-inf")
        self._told = self._refuses = False

    def missed(self, error: Exception, since: float) -> None:
        """Note that a call, begun at `since`, was in vain and will be repeated."""
        self._missed_at = time.monotonic()
        if self._since is None:
            self._first_missed_at = self._missed_at
        timeout = (
            isinstance(error, exceptions.TimeoutError) and since > self._back_at
        )  # an older call tells of the past
        self._since = max(min(since, self._since or since), self._back_at)
        self._refuses = isinstance(error, exceptions.ResponseError)
        if not self._told and (timeout or self._missed_at - self._first_missed_at > QUIET_SECONDS):
            self._told = True
            what = "takes no changes" if self._refuses else "does not answer"
            logger.warning("! Redis %s, waiting: %s", what, reason(error))

    def answered(self, *, repeated: bool) -> None:
        """Note an answer; where Redis only refuses to write, the one to the last call that was refused."""
        if self._since is None or (self._refuses and (self.waiting > repeated or not (repeated or self._calm()))):
            return
        self._back_at = time.monotonic()
        if self._told:
            logger.warning("Redis answers again, after %.1f s", self._back_at - self._since)
        self._since, self._told = None, False

    def lately(self, seconds: float) -> bool:
        """Tell whether a call was in vain within the last `seconds`."""
        return time.monotonic() - self._missed_at < seconds

    def _calm(self) -> bool:
        """Whoever was refused has been cancelled since, and nobody was refused for long enough."""
        return not self.lately(CALM_SECONDS)


class ShutdownDeadline:
    """The end of a process, which needs no Redis: calls get a few seconds, and after one in vain none is tried."""

    def __init__(self) -> None:
        self.begun = self.in_vain = False
        self._deadline: float | None = None
        self._calls: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Let whoever waits for Redis wait for three more seconds only, and each later call for two."""
        if not self.begun:
            self.begun = True
            self._deadline = asyncio.get_running_loop().time() + FAREWELL_SECONDS
            for call in self._calls:
                call.reschedule(self._deadline)

    @asynccontextmanager
    async def bounding(self) -> AsyncIterator[None]:
        """Run one call to Redis, with all its repeats; ConnectionError when the end of the process cut it short."""
        if self.in_vain:
            raise exceptions.ConnectionError("Redis was away when this process ended")
        call = asyncio.timeout_at(self._until())
        try:
            async with call:
                self._calls.add(call)
                yield
        except TimeoutError:
            if not call.expired():
                raise
            self.in_vain = True
            raise exceptions.ConnectionError("Redis is away, and this process ends") from None
        finally:
            self._calls.discard(call)

    def _until(self) -> float | None:
        if self._deadline is None:
            return None
        return max(self._deadline, asyncio.get_running_loop().time() + LAST_SECONDS)


ABSENCE = OutageTracker()
SHUTDOWN_DEADLINE = ShutdownDeadline()
