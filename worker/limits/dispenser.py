"""One dispenser per process and rate limit: it reserves start times ahead and gives each, once due, to the first.

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

from jobs.state.rate_limit import Reservation
from worker.background import every

LATE = 500_000
"""Microseconds after which a start time is void: used later, it might meet others in one window of the limit."""

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where a dispenser gets start times; both calls wait out a lost connection."""

    async def reserve(self, count: int) -> Reservation:
        """Reserve at most `count` start times; 0 only asks whether they may be used."""

    async def give_back(self) -> None:
        """Say that a leased start time was not used."""


class Slot(NamedTuple):
    """A start time; who has a leased one must answer for it."""

    time: int
    leased: bool


class TokenDispenser:
    """Hands out the start times of one limit, the lowest order first, then first come; only while it is `running`."""

    def __init__(self, name: str, source: Source) -> None:
        self.leased = False  # a request with a leased start time is under way
        self._name, self._source = name, source
        self._waiters: set[asyncio.Future[Slot]] = set()
        self._line: list[tuple[float, int, asyncio.Future[Slot]]] = []  # also those that have left
        self._numbers = count()
        self._slots: deque[Slot] = deque()
        self._wake = asyncio.Event()
        self._alarm = 0.0  # loop time from when the source is to be asked
        self._closed = False
        self._unwanted = False  # a leased start time that nobody uses
        self._horizon, self._epoch = 1, 0
        self._why, self._text = "", ""

    @property
    def reason(self) -> str | None:
        """Why those who wait get nothing, or little, at present."""
        return _REASONS[self._why].format(self._text) if self._waiters and self._why else None

    async def acquire(self, order: float = 0.0) -> Slot:
        """Return when a request may start now; the start time can be given back with `give_back`."""
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        heapq.heappush(self._line, (order, next(self._numbers), waiter))
        self._wake.set()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiters.discard(waiter)
            if not waiter.cancelled():
                self.give_back(waiter.result())
            raise

    def give_back(self, slot: Slot) -> None:
        """Have a start time that was not used: it goes to the next waiter, if it is not late."""
        self.leased = self.leased and not slot.leased
        self._slots.appendleft(slot)
        self.look()

    def look(self) -> None:
        """Ask the source again at once: something changed."""
        self._alarm = 0.0
        self._wake.set()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Reserve and hand out start times until the block ends."""
        return every(1.0, self._step, wake=self._wake)

    async def _step(self) -> float:
        """Ask the source while that is due; returns the seconds until it is."""
        loop = asyncio.get_running_loop()
        while self._due_at() <= loop.time():
            await self._reserve()
        return self._due_at() - loop.time()

    def _due_at(self) -> float:
        """Loop time from which the source is to be asked; infinite while nobody wants anything."""
        if not self._waiters and not (self._slots and self._slots[0].leased):
            return math.inf
        return 0.0 if self._missing() and not self._closed else self._alarm

    async def _reserve(self) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        answer = await self._source.reserve(self._missing())
        answered = loop.time()
        self._accept(answer)
        self._hand_out(answer.now, answer.now + int((answered - asked) * 1e6) - LATE)
        self._alarm = answered + answer.wait / 1e6
        if self._slots and not answer.wait:
            self._alarm = answered + (self._slots[0].time - answer.now) / 1e6
        if self._unwanted:
            self._unwanted = False
            await self._source.give_back()

    def _missing(self) -> int:
        most = min(len(self._waiters), self._horizon)
        missing = max(most - len(self._slots), 0)
        return missing if missing * 2 >= most else 0  # seldom and several: each reservation is a write to disk

    def _accept(self, answer: Reservation) -> None:
        if answer.wait or answer.epoch != self._epoch:
            self._unwanted = self._unwanted or any(slot.leased for slot in self._slots)
            self._slots.clear()
        self._slots.extend(Slot(time, answer.leased) for time in answer.times)
        self._closed, self._horizon, self._epoch = bool(answer.wait), answer.horizon, answer.epoch
        if answer.why != self._why:
            reason = _REASONS[answer.why].format(answer.text)
            logger.log(logging.WARNING if answer.why else logging.INFO, "%s limit: %s", self._name, reason)
        self._why, self._text = answer.why, answer.text

    def _hand_out(self, now: int, oldest: int) -> None:
        while self._slots and self._slots[0].time <= now:
            slot = self._slots.popleft()
            if slot.time >= oldest and self._grant(slot):
                continue
            if slot.leased:
                self._unwanted = True
            elif slot.time >= oldest:
                self._slots.appendleft(slot)  # for whoever comes before it is void
                return

    def _grant(self, slot: Slot) -> bool:
        while self._line:
            _, _, waiter = heapq.heappop(self._line)
            self._waiters.discard(waiter)
            if not waiter.done():
                waiter.set_result(slot)
                self.leased = self.leased or slot.leased
                return True
        return False


_REASONS = {
    "": "requests start again",
    "paused": "paused: {}",
    "probing": "paused, and tried again with one request: {}",
    "trouble": "waiting: {}",
    "held": "held back: nothing starts for another {} s",
    "reduced": "low credit: {} requests a minute",
}
