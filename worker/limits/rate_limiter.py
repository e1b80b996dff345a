"""Replicate's rate limits, shared by all workers of an account through Redis: fully used, and never exceeded.

A pace of 98.5 % of the limit with a burst of 0.5 % stays within token buckets, fixed and sliding windows alike. Below
60 a minute one request is in flight at a time, and the next starts an interval after its answer. When others use the
limit too, we slow down by what answers say is left of it, and each 429 takes a fifth of the pace, which recovers with
time. The numbers are in `jobs/account/rate_limit.lua`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from jobs.account.rate_limit import Hold, RateLimit
from jobs.redis_client.resilience import Redis
from worker.limits.dispenser import StartTime, TokenDispenser

LONGEST_HOLD = 3600.0
"""Seconds; a longer wait is more likely a misread header, and one request an hour does no harm."""


class RateLimiter:
    """The rate limits of one API host: requests a minute, by bucket (`create`, `read`).

    Use it as a context manager; cancel whatever waits in `acquire` before it ends.
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

    async def acquire(self, bucket: str, order: float = 0.0) -> StartTime:
        """Wait until a request may start, the lowest order first. Pauses, holds and a lost Redis are waited out."""
        return await self._dispensers[bucket].acquire(order)

    def give_back(self, bucket: str, start: StartTime) -> None:
        """Return the start time of a request that is not made; the next waiter gets it."""
        self._dispensers[bucket].give_back(start)

    async def finish_request(self, bucket: str) -> None:
        """Record that a request has ended, in whatever way; costs nothing at 60 a minute or more."""
        if self._dispensers[bucket].has_lease:
            self._dispensers[bucket].has_lease = False
            await self._buckets[bucket].finish_request()
            self._dispensers[bucket].refresh()

    async def hold(self, bucket: str, seconds: float | None, why: Hold = "throttled") -> float:
        """Start nothing for so long after a 429 (None: longer each time), then no bursts for ten minutes.

        `reduced` (low credit): six a minute for five minutes, then the full limit until the next such 429.
        `outage`: no 429, so the limit stays as it is. Returns how many seconds the hold lasts.
        """
        length = None if seconds is None else min(max(seconds, 0.0), LONGEST_HOLD)
        lasts = await self._buckets[bucket].hold(length, why)
        self._dispensers[bucket].refresh()
        return lasts

    async def heed_remaining(self, bucket: str, remaining: int | None) -> None:
        """Slow down when an answer's `ratelimit-remaining` is less than we alone would leave."""
        if remaining is not None:
            await self._buckets[bucket].heed_remaining(remaining)

    def reason(self, bucket: str) -> str | None:
        """Why waiters get no start times, or few, at present; None when all is well or nobody waits."""
        return self._dispensers[bucket].reason
