"""Whether Redis answers, as this process sees it: one log line when it is lost and one when it is back.

All patient clients report here, and no other module logs it. When the process ends, their waiting is cut short.
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
"""No answer came. They include a server that is loading; redis-py raises plain OSErrors while it connects."""

QUIET_SECONDS = 0.5
"""A connection that is back sooner is not worth a log line."""

CALM_SECONDS = 6.0
"""Longer than the time between two heartbeats of a worker, each of which is a write."""

SHUTDOWN_SECONDS, LAST_SECONDS = 3.0, 2.0
"""What is left, after the shutdown began, to the calls that wait and to each later call."""

logger = logging.getLogger(__name__)

_REFUSAL = re.compile(
    r"(?:^|[-'\"]|because of: )"  # first in an answer, in a script's, in a pipeline's, in an EXEC's
    r"(?:OOM|MISCONF|READONLY|TRYAGAIN|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|BUSY|LOADING) "
)
_ANNOTATED = re.compile(r"Command # .* of pipeline caused error: \(['\"](.*)['\"],?\)", re.DOTALL)


def is_passing(error: BaseException) -> bool:
    """Whether the same command will succeed once Redis has recovered; a refused login will not."""
    if isinstance(error, exceptions.AuthenticationError):
        return False
    if isinstance(error, (*LOSSES, exceptions.OutOfMemoryError, exceptions.ReadOnlyError)):
        return True
    return isinstance(error, exceptions.ResponseError) and bool(_REFUSAL.search(reason(error)))


def reason(error: BaseException) -> str:
    """What Redis said, in one line, without the commands of a pipeline, which may be long."""
    text = str(error)
    if annotated := _ANNOTATED.fullmatch(text):
        text = annotated[1]
    return text.partition(" script: ")[0].partition("\n")[0][:300]


def is_news(record: logging.LogRecord) -> bool:
    """Whether a log record says more than that Redis is down, which is logged here; a filter for loggers."""
    raised = record.exc_info[1] if record.exc_info else None
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(_is_only_passing(error) for error in (raised, *arguments))


def _is_only_passing(error: object) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_only_passing, error.exceptions))
    return isinstance(error, exceptions.RedisError) and is_passing(error)


class OutageTracker:
    """Since when calls to Redis have failed, how many of them wait to be repeated, and how often it was so."""

    def __init__(self, quiet: float = QUIET_SECONDS) -> None:
        self.waiting = self.outages = 0
        self._quiet = quiet
        self._since: float | None = None
        self._first_failed_at = self._failed_at = self._back_at = float("-inf")
        self._logged = self._refuses = False

    def record_failure(self, error: Exception, since: float) -> None:
        """Note that a call, started at `since`, failed and will be repeated."""
        self._failed_at = time.monotonic()
        if self._since is None:
            self._first_failed_at = self._failed_at
        # A call from before the last answer says nothing about now.
        timeout = isinstance(error, exceptions.TimeoutError) and since > self._back_at
        self._since = max(min(since, self._since or since), self._back_at)
        self._refuses = isinstance(error, exceptions.ResponseError)
        if not self._logged and (timeout or self._failed_at - self._first_failed_at > self._quiet):
            self._logged = True
            self.outages += 1
            what = "takes no changes" if self._refuses else "does not answer"
            logger.warning("! Redis %s, waiting: %s", what, reason(error), extra={"event": "redis_away"})

    def record_answer(self, *, repeated: bool) -> None:
        """Note an answer; while Redis only refuses writes, the outage ends with the last call that was refused."""
        if self._since is None or (self._refuses and (self.waiting > repeated or not (repeated or self._is_calm()))):
            return
        self._back_at = time.monotonic()
        if self._logged:
            logger.warning(
                "Redis answers again, after %.1f s",
                self._back_at - self._since,
                extra={"event": "redis_back", "seconds": self._back_at - self._since},
            )
        self._since, self._logged = None, False

    def failed_within(self, seconds: float) -> bool:
        """Whether a call failed within the last `seconds`."""
        return time.monotonic() - self._failed_at < seconds

    def _is_calm(self) -> bool:
        """The refused calls have been cancelled since, and none was refused for long enough."""
        return not self.failed_within(CALM_SECONDS)


class ShutdownDeadline:
    """The end of a process, which does not wait for Redis: calls get a few seconds, and after a failed one, none."""

    def __init__(self, seconds: float = SHUTDOWN_SECONDS) -> None:
        self.begun = self.failed = False
        self._seconds = seconds
        self._deadline: float | None = None
        self._calls: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Give calls that wait three more seconds, and each later call two."""
        if not self.begun:
            self.begun = True
            self._deadline = asyncio.get_running_loop().time() + self._seconds
            for call in self._calls:
                call.reschedule(self._deadline)

    @asynccontextmanager
    async def limit_call(self) -> AsyncIterator[None]:
        """Run one call to Redis with all its repeats; ConnectionError when the shutdown cut it short."""
        if self.failed:
            raise exceptions.ConnectionError("Redis was down when this process ended")
        call = asyncio.timeout_at(self._until())
        try:
            async with call:
                self._calls.add(call)
                yield
        except TimeoutError:
            if not call.expired():
                raise
            self.failed = True
            raise exceptions.ConnectionError("Redis is down, and this process ends") from None
        finally:
            self._calls.discard(call)

    def _until(self) -> float | None:
        if self._deadline is None:
            return None
        return max(self._deadline, asyncio.get_running_loop().time() + LAST_SECONDS)


OUTAGE = OutageTracker()
SHUTDOWN_DEADLINE = ShutdownDeadline()
