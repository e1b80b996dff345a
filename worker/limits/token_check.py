"""The check of the token: a 401 counts when `GET /account` confirms it twice, and its pause ends by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobs.account.account import Account
from jobs.errors import AccountRefused, ReplicateError
from worker.limits.rate_limiter import RateLimiter

UNCONFIRMED = 1.0
"""Seconds for which a bucket is held after a 401 that is not confirmed."""

logger = logging.getLogger(__name__)


class TokenCheck:
    """Asks `GET /account`, so rarely that it needs no start time: the read limit leaves a hundredth unused.

    `again_after`: seconds between the two requests that confirm a 401.
    """

    def __init__(
        self, limiter: RateLimiter, account: Account, ask: Callable[[], Awaitable[object]], again_after: float = 2.0
    ) -> None:
        self._limiter = limiter
        self._account = account
        self._ask = ask
        self._again_after = again_after
        self._turn = asyncio.Lock()
        self._checks = 0

    async def check(self, bucket: str, error: AccountRefused) -> None:
        """Pause the account if the token is refused there too; otherwise hold the bucket for a moment."""
        before = self._checks
        async with self._turn:
            if self._checks != before or await self._account.pause_reason():
                return  # another request has checked it meanwhile
            if await self._is_accepted() is False and await self._is_accepted(self._again_after) is False:
                await pause_account(self._account, error)
            else:
                seconds = await self._limiter.hold(bucket, UNCONFIRMED, "outage")
                logger.warning("! a 401 that GET /account does not confirm; %s waits %.0f s", bucket, seconds)
            self._checks += 1

    async def lift_if_accepted(self) -> None:
        """Lift the pause for a refused token once it is accepted again; one worker asks, every few minutes."""
        if await self._account.is_due("401") and await self._is_accepted():
            await lift_pause(self._account, "401")

    async def _is_accepted(self, after: float = 0.0) -> bool | None:
        """Whether the token is accepted, asked after so many seconds; None when the answer does not say."""
        await asyncio.sleep(after)
        try:
            await self._ask()
        except AccountRefused as error:
            return None if error.status != 401 else False
        except ReplicateError as error:
            logger.debug("the account does not answer: %s", error)
            return None
        return True


async def pause_account(account: Account, error: AccountRefused) -> None:
    """Pause everything until the account is accepted again."""
    if await account.pause_for(str(error.status), f"{error} (HTTP {error.status})"):
        extra = {"event": "account_paused"}
        logger.error("! everything is paused, and checked again every few minutes. %s", error, extra=extra)


async def lift_pause(account: Account, by: str) -> None:
    """Lift a pause of that kind, if there is one."""
    if await account.lift(by):
        logger.info(
            "the account is accepted again (no %s any more); everything continues",
            by,
            extra={"event": "account_resumed"},
        )
