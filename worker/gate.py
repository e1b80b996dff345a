"""The one gate that every request to the API passes: it waits for its turn and heeds what the answer says."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobs.account import Account
from jobs.errors import AccountRefused, RateLimited
from worker.ratelimit import Limiter

logger = logging.getLogger("worker.gate")


class Gate:
    """Limits, holds and pauses of the account, shared by all workers through Redis."""

    def __init__(self, limiter: Limiter, account: Account) -> None:
        self._limiter = limiter
        self._account = account

    @asynccontextmanager
    async def passing(self, bucket: str) -> AsyncIterator[None]:
        """Make one request in the block: a 429 holds back everybody, a 401 or 402 pauses the account."""
        await self._limiter.take(bucket)
        try:
            yield
        except RateLimited as error:
            logger.warning("! %s: held back for %.1f s by all workers: %s", bucket, error.retry_after, error)
            await self._limiter.hold(bucket, error.retry_after, reduced=error.reduced)
            raise
        except AccountRefused as error:
            if await self._account.pause(f"{error} (HTTP {error.status})"):
                logger.error("! everything is paused: %s; mend it, then run: python -m jobs resume", error)  # noqa: TRY400  # a sentence, no traceback
            raise
        finally:
            await self._limiter.answered(bucket)
