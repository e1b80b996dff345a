"""The token dispenser of a process and a rate limit: it reserves start times ahead and hands out each when it is due.

A start time belongs to nobody until it is due, so a waiter that is cancelled costs nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections import deque
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import NamedTuple, Protocol

from jobs.account.rate_limit import Reservation
from worker.background import every

LATE = 500_000
"""Microseconds after which a start time is void: used later, it might exceed the limit together with others."""

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where a dispenser reserves start times; both calls outlast a lost connection."""

    async def reserve(self, count: int) -> Reservation:
        """Reserve at most `count` start times; with 0, only ask whether those reserved are valid."""

    async def give_back(self) -> None:
        """Return a leased start time that was not used."""


class StartTime(NamedTuple):
    """When a request may start; a leased one must be finished or given back."""

    time: int
    leased: bool


class TokenDispenser:
    """Hands out the start times of one limit, the lowest order first, while it is `running`."""

    def __init__(self, name: str, source: Source) -> None:
        self.has_lease = False  # a request with a leased start time is under way
        self._name, self._source = name, source
        self._waiters: set[asyncio.Future[StartTime]] = set()
        self._queue: list[tuple[float, int, asyncio.Future[StartTime]]] = []  # a heap; includes cancelled waiters
        self._numbers = count()
        self._reserved: deque[StartTime] = deque()
        self._wake = asyncio.Event()
        self._ask_at = 0.0  # loop time
        self._closed = False
        self._has_unused_lease = False
        self._horizon, self._epoch = 1, 0
        self._why, self._text = "", ""

    @property
    def reason(self) -> str | None:
        """Why waiters get no start times, or few, at present."""
        return _REASONS[self._why].format(self._text) if self._waiters and self._why else None

    async def acquire(self, order: float = 0.0) -> StartTime:
        """Wait until a request may start; `give_back` returns the start time if it does not."""
        waiter: asyncio.Future[StartTime] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        heapq.heappush(self._queue, (order, next(self._numbers), waiter))
        self._wake.set()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiters.discard(waiter)
            if not waiter.cancelled():
                self.give_back(waiter.result())
            raise

    def give_back(self, start: StartTime) -> None:
        """Return a start time that was not used: it goes to the next waiter unless it is void by then."""
        self.has_lease = self.has_lease and not start.leased
        self._reserved.appendleft(start)
        self.refresh()

    def refresh(self) -> None:
        """Ask the source again at once: something changed."""
        self._ask_at = 0.0
        self._wake.set()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Reserve and hand out start times until the block ends."""
        return every(1.0, self._step, wake=self._wake)

    async def _step(self) -> float:
        """Ask the source as long as that is due; returns the seconds until the next time."""
        loop = asyncio.get_running_loop()
        while self._due_at() <= loop.time():
            await self._reserve()
        return self._due_at() - loop.time()

    def _due_at(self) -> float:
        """Loop time at which to ask the source; infinite while nobody waits."""
        if not self._waiters and not (self._reserved and self._reserved[0].leased):
            return math.inf
        return 0.0 if self._missing() and not self._closed else self._ask_at

    async def _reserve(self) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        answer = await self._source.reserve(self._missing())
        answered = loop.time()
        self._accept(answer)
        self._hand_out(answer.now, answer.now + int((answered - asked) * 1e6) - LATE)
        self._ask_at = answered + answer.wait / 1e6
        if self._reserved and not answer.wait:
            self._ask_at = answered + (self._reserved[0].time - answer.now) / 1e6
        if self._has_unused_lease:
            self._has_unused_lease = False
            await self._source.give_back()

    def _missing(self) -> int:
        most = min(len(self._waiters), self._horizon)
        missing = max(most - len(self._reserved), 0)
        return missing if missing * 2 >= most else 0  # many at a time, as each reservation is a write to disk

    def _accept(self, answer: Reservation) -> None:
        if answer.wait or answer.epoch != self._epoch:
            self._has_unused_lease = self._has_unused_lease or any(start.leased for start in self._reserved)
            self._reserved.clear()
        self._reserved.extend(StartTime(time, answer.leased) for time in answer.times)
        self._closed, self._horizon, self._epoch = bool(answer.wait), answer.horizon, answer.epoch
        if answer.why != self._why:
            reason = _REASONS[answer.why].format(answer.text)
            logger.log(logging.WARNING if answer.why else logging.INFO, "%s limit: %s", self._name, reason)
        self._why, self._text = answer.why, answer.text

    def _hand_out(self, now: int, oldest: int) -> None:
        while self._reserved and self._reserved[0].time <= now:
            start = self._reserved.popleft()
            if start.time >= oldest and self._grant(start):
                continue
            if start.leased:
                self._has_unused_lease = True
            elif start.time >= oldest:
                self._reserved.appendleft(start)  # for a waiter that comes before it is void
                return

    def _grant(self, start: StartTime) -> bool:
        while self._queue:
            _, _, waiter = heapq.heappop(self._queue)
            self._waiters.discard(waiter)
            if not waiter.done():
                waiter.set_result(start)
                self.has_lease = self.has_lease or start.leased
                return True
        return False


_REASONS = {
    "": "requests start again",
    "paused": "paused: {}",
    "probing": "paused, and probed with one request: {}",
    "trouble": "waiting: {}",
    "held": "held back: nothing starts for another {} s",
    "reduced": "low credit: {} requests a minute",
}
