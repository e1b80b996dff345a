"""The gate that every request to the API passes: it waits for its start time, and holds others as the answer says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from jobs.errors import AccountRefused, Blocked, NotSent, RateLimited, ReplicateError, Unanswered
from jobs.state.account import Account
from jobs.state.rate_limit import Hold
from worker.limits.block_pages import BlockPages
from worker.limits.rate_limiter import RateLimiter
from worker.limits.token_check import TokenCheck, lift, pause

logger = logging.getLogger(__name__)
NOTICE_EVERY = 5.0

LONGEST_BLIND = 300.0
"""Seconds for which reads are held at most, whatever an answer asks for: what ends is kept for an hour only."""


class RequestGate:
    """Rate limits, holds and pauses of the account, shared by all workers through Redis; each change is logged once."""

    def __init__(self, limiter: RateLimiter, account: Account, token: TokenCheck) -> None:
        self._limiter = limiter
        self._account = account
        self._token = token
        self._away = set[str]()  # buckets
        self._pages = BlockPages()
        self._noticed_at = 0.0
        self._held_until = 0.0

    @asynccontextmanager
    async def passing(
        self, bucket: str, order: float = 0.0, *, prompt: str = "", before: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Make one request in the block: a 429 holds back everybody; a 402 or a confirmed 401 pauses the account.

        `order` is its place among those that wait, `prompt` the full name of the prompt that a create is for. `before`
        is awaited when its start time has come; what it raises gives the start time to the next one.
        """
        slot = await self._limiter.acquire(bucket, order)
        try:
            if before:
                await before()
        except BaseException:
            self._limiter.give_back(bucket, slot)
            raise
        try:
            yield
        except RateLimited as error:
            await self._hold(bucket, error, "reduced" if error.reduced else "throttled")
            raise
        except AccountRefused as error:
            await (self._token.check(bucket, error) if error.status == 401 else pause(self._account, error))
            raise
        except (NotSent, Unanswered) as error:
            await self._miss(bucket, error)
            raise
        else:
            self._pages.note_passed(prompt)
            await self._hit(bucket)
            if bucket == "create" and slot.leased:
                await lift(self._account, "402")
        finally:
            await self._limiter.answered(bucket)

    async def left(self, bucket: str, remaining: int | None) -> None:
        """Heed how many requests an answer says that the limit leaves."""
        await self._limiter.left(bucket, remaining)

    def is_blocked_alone(self, prompt: str) -> bool:
        """Note that the prompt's create met a block page; True when others pass again and again: it is the cause."""
        return self._pages.note_blocked(prompt)

    async def _hold(self, bucket: str, error: ReplicateError, why: Hold) -> float:
        seconds = error.retry_after
        if seconds is not None and bucket == "read":  # what ended meanwhile has to be fetched within its hour
            seconds = min(seconds, LONGEST_BLIND)
        lasts = await self._limiter.hold(bucket, seconds, why)
        now = asyncio.get_running_loop().time()
        if now > self._held_until:
            logger.warning("! %s: held back for %.1f s, for all workers: %s", bucket, lasts, error)
        self._held_until = max(self._held_until, now + lasts)
        return lasts

    async def _miss(self, bucket: str, error: ReplicateError) -> None:
        now = asyncio.get_running_loop().time()
        if not self._away:
            logger.warning("! the API does not answer, trying on: %s", error)
        self._away.add(bucket)
        held = 0.0
        if isinstance(error, Blocked) or error.retry_after:
            held = await self._hold(bucket, error, "outage")
        if held or now > self._noticed_at + NOTICE_EVERY:
            self._noticed_at = now
            await self._account.give_notice(f"the API does not answer: {error}", held)

    async def _hit(self, bucket: str) -> None:
        if bucket in self._away:
            self._away.remove(bucket)
            if not self._away:
                logger.info("the API answers again")
                await self._account.withdraw_notice()
