"""The limit's script against each kind of server limiter, in virtual time: hours take a second."""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import pytest
from redis import Redis as BlockingRedis

from jobs.account import rate_limit
from jobs.account.rate_limit import RateLimit
from jobs.redis_client.resilience import Redis
from simulator.limits import FixedWindow, SlidingWindow, TokenBucket
from tests.integration.worker.limits.timed_script import TimedScript

API_HOST = "api.test"
MINUTE = 60.0
SPREAD = 0.5
"""Seconds by which a request comes late at the server at most."""

Server = SlidingWindow | FixedWindow | TokenBucket
SERVERS: dict[str, Callable[[int], Server]] = {
    "sliding": lambda limit: SlidingWindow(limit, MINUTE, rejected_count=True),
    "fixed": lambda limit: FixedWindow(limit, MINUTE),
    "bucket": lambda limit: TokenBucket(limit, MINUTE, 60, rejected_count=True),
    "small bucket": lambda limit: TokenBucket(limit, MINUTE, 2 + limit // 60, rejected_count=True),
}


@dataclass
class World:
    """Workers that always want to create, and a server; `at` schedules what happens when, in seconds."""

    redis: Redis
    blocking_redis: BlockingRedis
    server: Server
    limit: float = 600
    headers: bool = True
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    now: float = 0.0
    epoch: int = field(default_factory=lambda: int(time.time()))  # keys expire by the real clock
    idle: tuple[float, float] = (math.inf, math.inf)
    low_until: float = 0.0
    low_server: Server = field(default_factory=lambda: TokenBucket(6, MINUTE, 1, rejected_count=False))
    admitted: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    _leasing: set[RateLimit] = field(default_factory=set)
    _events: list[tuple[float, int, Callable[[], Awaitable[None]]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def at(self, when: float, act: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def workers(self, count: int) -> None:
        for _ in range(count):
            self._worker()

    def _worker(self) -> None:
        bucket = RateLimit(self.redis, API_HOST, "create", self.limit)
        script = TimedScript(self.blocking_redis, rate_limit, self._micros)
        bucket._script = script  # type: ignore[assignment] # it is called alike
        self.at(self.now + self.dice.random(), lambda: self._reserve(bucket))

    def _micros(self) -> int:
        return self.epoch * 1_000_000 + round(self.now * 1e6)

    def other_program(self, a_minute: float, since: float, until: float) -> None:
        """It asks whatever the answers are."""

        async def ask() -> None:
            self.server.take(self.now)
            if self.now < until:
                self.at(self.now + self.dice.expovariate(a_minute / MINUTE), ask)

        self.at(since, ask)

    async def run(self, until: float) -> None:
        while self._events[0][0] < until:
            self.now, _, act = heapq.heappop(self._events)
            await act()

    async def _reserve(self, bucket: RateLimit) -> None:
        if self.idle[0] <= self.now < self.idle[1]:
            self.at(self.idle[1] + self.dice.random(), lambda: self._reserve(bucket))
            return
        answer = await bucket.reserve(1000)
        due = [self.now + max(0, start - answer.now) / 1e6 for start in answer.times]
        for start in due:
            late = self.dice.uniform(0, SPREAD)
            self.at(start + late, lambda: self._arrive(bucket))
        if answer.leased:
            self._leasing.add(bucket)
        else:
            self.at(max([self.now + answer.wait / 1e6, *due[-1:]]), lambda: self._reserve(bucket))

    async def _arrive(self, bucket: RateLimit) -> None:
        low = self.now < self.low_until
        server = self.low_server if low else self.server
        wait, left, minute = server.take(self.now), server.remaining(self.now), int(self.now / MINUTE)
        if wait:
            self.rejected[minute] += 1
            await bucket.hold(math.ceil(wait), "reduced" if low else "throttled")
        else:
            self.admitted[minute] += 1
            if self.headers:
                await bucket.heed_remaining(left)
        await self._answered(bucket)

    async def _answered(self, bucket: RateLimit) -> None:
        """Only who had a lease must say so; it goes on then."""
        if bucket in self._leasing:
            self._leasing.discard(bucket)
            await bucket.finish_request()
            await self._reserve(bucket)

    def use(self, minutes: range) -> float:
        """The share of the limit that was used."""
        return sum(self.admitted[minute] for minute in minutes) / len(minutes) / self.limit


@pytest.fixture
def make_world(redis: Redis, blocking_redis: BlockingRedis) -> Callable[..., World]:
    """A world on the Redis of this test, for a server."""
    return partial(World, redis, blocking_redis)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", [60, 600])
@pytest.mark.parametrize("kind", SERVERS)
async def test_the_limit_is_used_and_never_exceeded(
    make_world: Callable[..., World], kind: str, limit: int, workers: int
) -> None:
    world = make_world(SERVERS[kind](limit), limit, idle=(3 * MINUTE, 4 * MINUTE))
    world.workers(workers)
    await world.run(6 * MINUTE)
    assert not world.rejected
    assert world.admitted[0] >= 0.97 * limit - limit / MINUTE, "from cold; the workers start within a second"
    assert world.use(range(1, 3)) >= 0.98
    assert world.use(range(5, 6)) >= 0.98, "after idling"


@pytest.mark.parametrize("headers", [True, False], ids=["with headers", "without"])
@pytest.mark.parametrize("kind", SERVERS)
async def test_another_program_gets_its_part_and_we_the_rest(
    make_world: Callable[..., World], kind: str, *, headers: bool
) -> None:
    world = make_world(SERVERS[kind](600), headers=headers)
    world.workers(4)
    world.other_program(200, since=2 * MINUTE, until=8 * MINUTE)
    await world.run(15 * MINUTE)
    assert world.use(range(3, 8)) >= 0.8 * 400 / 600
    assert world.rejected.total() <= 100
    assert max(world.rejected, default=0) < 9, "none when the other has ended"
    assert world.use(range(13, 15)) >= 0.97, "the way back up is found"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_limit_lower_than_it_is_set_is_found(make_world: Callable[..., World], kind: str) -> None:
    world = make_world(SERVERS[kind](300))
    world.workers(4)
    await world.run(12 * MINUTE)
    assert world.use(range(1, 12)) >= 0.85 * 300 / 600
    assert sum(world.rejected[minute] for minute in range(2, 12)) <= 0.05 * 300 * 10


async def test_low_credit_ends_and_the_full_limit_is_back(make_world: Callable[..., World]) -> None:
    world = make_world(SERVERS["sliding"](600), low_until=7 * MINUTE)
    world.workers(4)
    await world.run(14 * MINUTE)
    assert world.rejected.total() <= 40, "those under way at the first, and when the full limit was tried again"
    assert 5 * 4 <= sum(world.admitted[minute] for minute in range(1, 6)) <= 5 * 6
    assert world.use(range(12, 14)) >= 0.97
