"""Replicate's rate limits, shared by all workers of an account through Redis: all of them used, and never exceeded.

Pace 98.5 % of the limit with a burst of 0.5 % of it keeps within bucket, fixed and sliding windows alike. Below 60 a
minute one request is in flight at a time, and the next one starts an interval after its answer. When others use the
limit too, answers slow us down by what they leave, and each 429 takes a fifth of the pace, which time gives back. The
numbers are in `jobs/state/rate_limit.lua`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from jobs.redis_client.resilience import Redis
from jobs.state.rate_limit import Hold, RateLimit
from worker.limits.dispenser import Slot, TokenDispenser

LONGEST_HOLD = 3600.0
"""Seconds; a longer wait is more likely a misread header, and asking once an hour does no harm."""


class RateLimiter:
    """The rate limits of one API host: requests a minute, by bucket (`create`, `read`).

    Use it as a context manager; all that wait in `acquire` must be cancelled before it ends.
    """

    def __init__(self, redis: Redis, api_host: str, limits: Mapping[str, float]) -> None:
        self._buckets = {name: RateLimit(redis, api_host, name, limit) for name, limit in limits.items()}
        self._dispensers = {name: TokenDispenser(name, bucket) for name, bucket in self._buckets.items()}
        self._loops = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for dispenser in self._dispensers.values():
            await self._loops.enter_async_context(dispenser.running())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loops.aclose()

    async def acquire(self, bucket: str, order: float = 0.0) -> Slot:
        """Return when a request may start now, the lowest order first. Waits out pauses, holds and a lost Redis."""
        return await self._dispensers[bucket].acquire(order)

    def give_back(self, bucket: str, slot: Slot) -> None:
        """Have what `acquire` gave for a request that is not made: it is for the next one."""
        self._dispensers[bucket].give_back(slot)

    async def answered(self, bucket: str) -> None:
        """Say that a request is over, however it ended; costs nothing at 60 a minute or more."""
        if self._dispensers[bucket].leased:
            self._dispensers[bucket].leased = False
            await self._buckets[bucket].answered()
            self._dispensers[bucket].look()

    async def hold(self, bucket: str, seconds: float | None, why: Hold = "throttled") -> float:
        """Let nobody start for so long (None: longer each time) after a 429, and then without bursts for ten minutes.

        `reduced` (low credit): six a minute for five minutes; then the full limit is tried, until the next such 429.
        `outage`: no 429, so the limit is as it was. Returns how many seconds the hold lasts.
        """
        length = None if seconds is None else min(max(seconds, 0.0), LONGEST_HOLD)
        lasts = await self._buckets[bucket].hold(length, why)
        self._dispensers[bucket].look()
        return lasts

    async def left(self, bucket: str, remaining: int | None) -> None:
        """Heed what an answer leaves of the limit (`ratelimit-remaining`): when it is less than we would, slow down."""
        if remaining is not None:
            await self._buckets[bucket].left(remaining)

    def reason(self, bucket: str) -> str | None:
        """Why those who wait here get nothing, or little, at present; None when all is well or nobody waits."""
        return self._dispensers[bucket].reason
