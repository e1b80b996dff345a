"""A 401 is believed when a free question says so too, twice; its pause ends when the token is accepted again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobs.errors import AccountRefused, ReplicateError
from jobs.state.account import Account
from worker.limits.rate_limiter import RateLimiter

AGAIN_AFTER = 2.0
"""Seconds between the two questions."""

UNCONFIRMED = 1.0
"""Seconds that a request waits after a 401 that nothing confirms; all others of its limit with it."""

logger = logging.getLogger(__name__)


class TokenCheck:
    """Asks `GET /account`, seldom enough to take no place of the read limit, which leaves a hundredth unused."""

    def __init__(self, limiter: RateLimiter, account: Account, ask: Callable[[], Awaitable[object]]) -> None:
        self._limiter = limiter
        self._account = account
        self._ask = ask
        self._turn = asyncio.Lock()
        self._checks = 0

    async def check(self, bucket: str, error: AccountRefused) -> None:
        """Pause the account if the token is refused there too; else hold the bucket for a moment."""
        before = self._checks
        async with self._turn:
            if self._checks != before or await self._account.pause_reason():
                return  # somebody has found out meanwhile
            if await self._is_accepted() is False and await self._is_accepted(AGAIN_AFTER) is False:
                await pause(self._account, error)
            else:
                seconds = await self._limiter.hold(bucket, UNCONFIRMED, "outage")
                logger.warning("! a 401 that GET /account does not confirm; %s waits %.0f s", bucket, seconds)
            self._checks += 1

    async def look(self) -> None:
        """Lift a pause for a refused token when the token is accepted again; one worker looks, every few minutes."""
        if await self._account.is_due("401") and await self._is_accepted():
            await lift(self._account, "401")

    async def _is_accepted(self, after: float = 0.0) -> bool | None:
        """Whether the token is, asked after so many seconds; None when the answer does not say."""
        await asyncio.sleep(after)
        try:
            await self._ask()
        except AccountRefused as error:
            return None if error.status != 401 else False
        except ReplicateError as error:
            logger.debug("the account does not answer: %s", error)
            return None
        return True


async def pause(account: Account, error: AccountRefused) -> None:
    """Pause everything until the account is accepted again."""
    if await account.pause_for(str(error.status), f"{error} (HTTP {error.status})"):
        logger.error("! everything is paused, and looked at again every few minutes. %s", error)  # no traceback


async def lift(account: Account, by: str) -> None:
    """Lift a pause of that kind, if there is one."""
    if await account.lift(by):
        logger.info("the account is accepted again (no %s any more); everything goes on", by)
