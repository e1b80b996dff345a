"""One poller a worker: it learns when predictions end.

While many are in flight it sweeps the list, 100 predictions a request; the few, the old and those that the list does
not show are asked one by one. All of it within the read budget.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from jobs.config import Config
from jobs.errors import NotFound, ReplicateError, Unanswered
from worker.backlog import RETENTION
from worker.gate import Gate
from worker.replicate import Prediction, Replicate
from worker.sweeping import SWEEP_FROM, Sweep, pause
from worker.waiter import Waiter

logger = logging.getLogger("worker.polling")

DISTRUST = 10
"""Poll intervals without a sweep after one that failed, or that was behind: meanwhile all are asked one by one."""

SAMPLE, BEHIND = 10, 5.0
"""Poll intervals between two GETs that test whether the list is up to date; how many seconds it may be behind."""

TICKS = 5
"""Looks in a poll interval at what there is to ask."""

BELIEVE_MISSING, NEW = 3, 60.0
"""Looks in a row that find no such prediction until it is believed, and for how long it may be too new to be known."""

GRACE = 60.0
"""Seconds past the deadline after which a prediction that has not ended is overdue."""


class Poller:
    """`await poller.wait(…)`: two tasks ask for all that wait, one by the list, one by ids."""

    def __init__(self, replicate: Replicate, gate: Gate, config: Config) -> None:
        self._replicate = replicate
        self._gate = gate
        self._config = config
        self._waiters: dict[str, Waiter] = {}
        self._wake = asyncio.Event()
        self._swept_at = self._sampled_at = self._distrust_until = 0.0
        self._pause = config.poll_interval

    @property
    def in_flight(self) -> int:
        """How many predictions are waited for."""
        return len(self._waiters)

    async def wait(self, prediction_id: str, since: float) -> Prediction:
        """Return the prediction when it has ended, or as last seen when it is overdue.

        Raises NotFound when Replicate does not know it. `since`: when it was intended, Unix seconds.
        """
        waiter = self._waiters.get(prediction_id) or Waiter.begin(prediction_id, since)
        self._waiters[prediction_id] = waiter
        self._wake.set()
        try:
            return await asyncio.shield(waiter.ended)
        finally:
            self._waiters.pop(prediction_id, None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll until the block ends."""
        tasks = [asyncio.create_task(self._repeat(act)) for act in (self._sweep, self._ask_some)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _repeat(self, act: Callable[[], Awaitable[float]]) -> None:
        """Act again and again while somebody waits, each time so many seconds after the last began as it says."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiters:
                self._wake.clear()
                await self._wake.wait()
            began, rest = loop.time(), self._config.poll_interval
            try:
                rest = await act()
            except ReplicateError as error:
                logger.debug("a pass ended early: %s", error)  # the gate has told what concerns people
            except Exception:  # whatever it is, all that wait would wait for ever
                logger.exception("! polling failed unexpectedly; trying on")
            await asyncio.sleep(max(began + rest - loop.time(), 0.01))

    @property
    def _sweeping(self) -> bool:
        return len(self._waiters) >= SWEEP_FROM and asyncio.get_running_loop().time() >= self._distrust_until

    async def _sweep(self) -> float:
        """Look at all by the list, if they are many; returns seconds until the next look."""
        interval = self._config.poll_interval
        if not self._sweeping:
            return interval / TICKS
        sweep, began = Sweep(self._waiters, self._pause), asyncio.get_running_loop().time()
        try:
            await sweep.read(self._replicate, self._gate)
        except Exception:
            self._distrust()
            raise
        last, self._swept_at = began - self._swept_at, began
        self._pause = pause(sweep, last, interval, self._config.reads_per_minute)
        return self._pause

    async def _ask_some(self) -> float:
        """Look one by one at what the list does not show, those first that waited longest for it."""
        interval = self._config.poll_interval
        least = max(self._pause, interval) if self._sweeping else interval
        asked = [waiter for waiter in self._waiters.values() if self._to_ask(waiter, least)]
        asked.sort(key=lambda waiter: (waiter.asked_at, waiter.since))
        share = self._config.reads_per_minute / 60 * interval / TICKS / 2
        asked = asked[: max(int(share), 1)] or self._sample()
        problems = await asyncio.gather(*map(self._ask, asked), return_exceptions=True)
        for error in filter(None, problems):
            raise error
        return interval / TICKS

    def _to_ask(self, waiter: Waiter, least: float) -> bool:
        if self._overdue(waiter):
            return waiter.due(least, most=0)
        return not (waiter.listed and self._sweeping) and waiter.due(least)

    def _sample(self) -> list[Waiter]:
        """One of those that the list shows, from time to time: it may be behind."""
        now = asyncio.get_running_loop().time()
        before = now - SAMPLE * self._config.poll_interval
        older = [waiter for waiter in self._waiters.values() if waiter.known_at < before]
        if not older or self._sampled_at > before:
            return []
        self._sampled_at = now
        return [min(older, key=lambda waiter: (waiter.asked_at, waiter.since))]

    async def _ask(self, waiter: Waiter) -> None:
        async with self._gate.passing("read"):
            waiter.asked_at = waiter.looked_at = asyncio.get_running_loop().time()
            try:
                prediction = await self._replicate.get(waiter.prediction_id)
            except NotFound as error:
                waiter.missed += 1
                if waiter.missed >= BELIEVE_MISSING and time.time() > waiter.since + NEW:
                    waiter.lose(error)
                return
            except Unanswered as error:
                if self._overdue(waiter, RETENTION):  # its output is gone, too
                    waiter.lose(NotFound(str(error), prediction_id=waiter.prediction_id))
                raise
        waiter.missed = 0
        if prediction.terminal or self._overdue(waiter):
            if waiter.listed and waiter.known_at <= self._swept_at and self._hidden(prediction):
                self._distrust()
            waiter.end(prediction)

    def _hidden(self, prediction: Prediction) -> bool:
        """Tell whether the last sweep should have shown that it had ended."""
        ended, ago = prediction.time("completed_at"), asyncio.get_running_loop().time() - self._swept_at
        return ended is not None and ended + BEHIND < time.time() - ago + self._replicate.clock_offset

    def _distrust(self) -> None:
        self._distrust_until = asyncio.get_running_loop().time() + DISTRUST * self._config.poll_interval

    def _overdue(self, waiter: Waiter, more: float = 0.0) -> bool:
        return time.time() > waiter.since + self._config.deadline + GRACE + more
