"""Requests for models: within the read limit that workers and producers share, and repeated for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from jobs.account.rate_limit import Hold, RateLimit, Reservation
from jobs.errors import NotSent, RateLimited, Unanswered

if TYPE_CHECKING:
    import httpx

TRIES = 4
"""Requests until an API that does not answer is said to be away."""

FIRST_PAUSE = 0.5
LONGEST_WAIT = 60.0
"""Seconds that somebody waits for the limit, in all."""


class PacedReads:
    """GETs of one command; without a `limit`, only the answers slow them down."""

    def __init__(self, client: httpx.AsyncClient, limit: RateLimit | None) -> None:
        self._client, self._limit = client, limit
        self._deadline = asyncio.get_running_loop().time() + LONGEST_WAIT

    async def get(self, path: str) -> Mapping[str, Any]:
        """The body of an answer; a 429 is waited out, and an outage is tried a few times. ReplicateError."""
        tries = 0
        while True:
            try:
                return await self._get(path)
            except RateLimited as error:
                pause = max(await self._hold(error), FIRST_PAUSE)
                if asyncio.get_running_loop().time() + pause > self._deadline:
                    raise
            except (NotSent, Unanswered):
                tries += 1
                pause = FIRST_PAUSE * 2 ** (tries - 1)
                if tries == TRIES:
                    raise
            await asyncio.sleep(pause)

    async def _get(self, path: str) -> Mapping[str, Any]:
        from jobs.replicate_api.client import call  # noqa: PLC0415 - only who asks the API needs httpx

        async with self._start_time():
            return (await call(self._client, "GET", path)).body

    @asynccontextmanager
    async def _start_time(self) -> AsyncIterator[None]:
        """Wait until the limit lets a request start; RateLimited when that takes too long."""
        if self._limit is None:
            yield
            return
        loop = asyncio.get_running_loop()
        while not (reserved := await self._reserve(self._limit)).times:
            pause = max(reserved.wait / 1e6, 0.05)
            if loop.time() + pause > self._deadline:
                raise RateLimited("the limit of reads is held back", retry_after=pause)
            await asyncio.sleep(pause)
        try:
            await asyncio.sleep(max(reserved.times[0] - reserved.now, 0) / 1e6)
            yield
        finally:
            if reserved.leased:
                await self._limit.finish_request()

    async def _reserve(self, limit: RateLimit) -> Reservation:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await limit.reserve(1)
        except TimeoutError as error:
            raise NotSent("Redis does not answer for the limit of reads") from error

    async def _hold(self, error: RateLimited) -> float:
        """Hold everybody back as the answer says; returns for how long."""
        if self._limit is None:
            return error.retry_after or FIRST_PAUSE
        why: Hold = "reduced" if error.reduced else "throttled"
        return await self._limit.hold(error.retry_after, why)
