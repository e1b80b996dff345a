"""The gate of every request to the API: it waits for a start time, and holds back others when the answer says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from jobs.account.account import Account
from jobs.account.rate_limit import Hold
from jobs.errors import AccountRefused, Blocked, NotSent, RateLimited, ReplicateError, Unanswered
from worker.limits.rate_limiter import RateLimiter
from worker.limits.token_check import TokenCheck, lift_pause, pause_account
from worker.telemetry import metrics

logger = logging.getLogger(__name__)
NOTICE_EVERY = 5.0

LONGEST_READ_HOLD = 300.0
"""Seconds; reads are never held longer, as Replicate keeps outputs for an hour only."""


ENOUGH_PASSED = 10
"""Other creates must pass between two block pages of a prompt for these to count; so many for each other page."""

BLOCKED_ALONE = 3
"""After this many block pages in a row for one prompt alone, its input is taken for the cause."""


class _Seen(NamedTuple):
    alone: int
    passed: int
    blocked: int


class BlockPages:
    """Block pages that this worker's creates got: an outage that holds all, or the fault of one prompt's own input.

    A firewall before the API may refuse what looks like an attack in a prompt's text. Such a prompt never passes, and
    must not hold back all others.
    """

    def __init__(self) -> None:
        self._passed = self._blocked = 0
        self._of: dict[str, _Seen] = {}

    def note_passed(self, prompt: str) -> None:
        """Count a create that the API itself answered; "" is another request, which does not count."""
        if prompt:
            self._passed += 1
            self._of.pop(prompt, None)

    def note_blocked(self, prompt: str) -> bool:
        """Count a create that got a block page; True when its prompt is the cause."""
        self._blocked += 1
        seen = self._of.setdefault(prompt, _Seen(0, self._passed, self._blocked))
        passed, blocked = self._passed - seen.passed, self._blocked - 1 - seen.blocked
        if passed > ENOUGH_PASSED * max(blocked, 1):
            self._of[prompt] = _Seen(seen.alone + 1, self._passed, self._blocked)
        elif blocked > passed:
            self._of[prompt] = _Seen(0, self._passed, self._blocked)
        return self._of[prompt].alone >= BLOCKED_ALONE


class RequestGate:
    """Rate limits, holds and pauses of the account, shared by all workers; each change is logged once."""

    def __init__(self, limiter: RateLimiter, account: Account, token: TokenCheck) -> None:
        self._limiter = limiter
        self._account = account
        self.token = token
        self._unanswered = set[str]()  # buckets
        self._pages = BlockPages()
        self._noticed_at = 0.0
        self._held_until = 0.0

    @asynccontextmanager
    async def request(
        self, bucket: str, order: float = 0.0, *, prompt: str = "", before: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Make one request in the block: a 429 holds back all workers; a 402 or a confirmed 401 pauses the account.

        `order` ranks it among those that wait, `prompt` is the full name of a create's prompt. `before` is awaited when
        the request may start; if it raises, the start time goes to the next waiter.
        """
        with metrics.time_wait(bucket):
            start = await self._limiter.acquire(bucket, order)
        try:
            if before:
                await before()
        except BaseException:
            self._limiter.give_back(bucket, start)
            raise
        try:
            with metrics.count_request(bucket):
                yield
        except RateLimited as error:
            await self._hold(bucket, error, "reduced" if error.reduced else "throttled")
            raise
        except AccountRefused as error:
            await (self.token.check(bucket, error) if error.status == 401 else pause_account(self._account, error))
            raise
        except (NotSent, Unanswered) as error:
            await self._note_unanswered(bucket, error)
            raise
        else:
            self._pages.note_passed(prompt)
            await self._note_answered(bucket)
            if bucket == "create" and start.leased:
                await lift_pause(self._account, "402")
        finally:
            await self._limiter.finish_request(bucket)

    async def heed_remaining(self, bucket: str, remaining: int | None) -> None:
        """Slow down when an answer says that little of the limit is left."""
        await self._limiter.heed_remaining(bucket, remaining)

    def is_itself_blocked(self, prompt: str) -> bool:
        """Note a block page for the prompt's create; True when its input is the cause, as others pass repeatedly."""
        return self._pages.note_blocked(prompt)

    async def _hold(self, bucket: str, error: ReplicateError, why: Hold) -> float:
        seconds = error.retry_after
        if seconds is not None and bucket == "read":  # outputs must be fetched within their hour
            seconds = min(seconds, LONGEST_READ_HOLD)
        lasts = await self._limiter.hold(bucket, seconds, why)
        now = asyncio.get_running_loop().time()
        if now > self._held_until:
            logger.warning(
                "! %s: held back for %.1f s, for all workers: %s",
                bucket,
                lasts,
                error,
                extra={"event": "requests_held", "seconds": lasts},
            )
        self._held_until = max(self._held_until, now + lasts)
        return lasts

    async def _note_unanswered(self, bucket: str, error: ReplicateError) -> None:
        now = asyncio.get_running_loop().time()
        if not self._unanswered:
            logger.warning("! the API does not answer, will be retried: %s", error, extra={"event": "api_away"})
        self._unanswered.add(bucket)
        held = 0.0
        if isinstance(error, Blocked) or error.retry_after:
            held = await self._hold(bucket, error, "outage")
        if held or now > self._noticed_at + NOTICE_EVERY:
            self._noticed_at = now
            await self._account.set_notice(f"the API does not answer: {error}", held)

    async def _note_answered(self, bucket: str) -> None:
        if bucket in self._unanswered:
            self._unanswered.remove(bucket)
            if not self._unanswered:
                logger.info("the API answers again", extra={"event": "api_back"})
                await self._account.clear_notice()
