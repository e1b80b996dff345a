"""One poller a worker: it learns when predictions end.

While many are in flight it sweeps the list, 100 predictions a request; the few, the old and those that the list does
not show are asked one by one. All of it within the read budget. Of several workers one does so for all.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from jobs.config import Config
from jobs.errors import NotFound, ReplicateError, Unanswered
from jobs.replicate_api.predictions import RETENTION, Prediction, Replicate
from worker.limits.request_gate import RequestGate
from worker.polling.leader import PollingLeader
from worker.polling.list_pass import SWEEP_FROM, ListPass, pause
from worker.polling.waiter import Waiter

logger = logging.getLogger(__name__)

DISTRUST = 10
"""Poll intervals without a sweep after one that failed, or that was behind: meanwhile all are asked one by one."""

SAMPLE, BEHIND = 10, 5.0
"""Poll intervals between two GETs that test whether the list is up to date; how many seconds it may be behind."""

RESIGN = 10.0
"""Seconds without any good answer after which another worker may have more luck."""

TICKS = 5
"""Looks in a poll interval at what there is to ask."""

BELIEVE_MISSING, NEW = 3, 60.0
"""Looks in a row that find no such prediction until it is believed, and for how long it may be too new to be known."""

GRACE = 60.0
"""Seconds past the deadline after which a prediction that has not ended is overdue."""


class Poller:
    """`await poller.wait(…)`: three tasks ask for all that wait: by the list, by ids, and other workers."""

    def __init__(self, replicate: Replicate, gate: RequestGate, config: Config, sweeper: PollingLeader) -> None:
        self._replicate = replicate
        self._gate = gate
        self._config = config
        self._sweeper = sweeper
        self._waiters: dict[str, Waiter] = {}
        self._wake = asyncio.Event()
        self._swept_at = self._sampled_at = self._distrust_until = 0.0
        self._pause, self._failing_since = config.poll_interval, math.inf

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
        tasks = [asyncio.create_task(self._repeat(act)) for act in (self._share, self._sweep, self._ask_some)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._sweeper.step_down()

    async def _repeat(self, act: Callable[[], Awaitable[float]]) -> None:
        """Act again and again while somebody waits, each time so many seconds after the last began as it says."""
        loop = asyncio.get_running_loop()
        while True:
            if not (self._all or self._sweeper.is_leader):
                self._wake.clear()
                await self._wake.wait()
            began, rest = loop.time(), self._config.poll_interval
            try:
                rest = await act()
            except ReplicateError as error:
                logger.debug("a pass ended early: %s", error)  # the gate has told what concerns people
                self._failing_since = min(self._failing_since, loop.time())
            except RedisError as error:
                logger.debug("not shared: %s", error)
            except Exception:  # whatever it is, all that wait would wait for ever
                logger.exception("! polling failed unexpectedly; trying on")
            await asyncio.sleep(max(began + rest - loop.time(), 0.01))

    @property
    def _all(self) -> dict[str, Waiter]:
        return self._sweeper.others | self._waiters

    @property
    def _trusting(self) -> bool:
        return asyncio.get_running_loop().time() >= self._distrust_until

    @property
    def _sweeping(self) -> bool:
        """Whether those that the list shows are looked at by the list, here or elsewhere."""
        return self._trusting and (self._sweeper.elsewhere or len(self._all) >= SWEEP_FROM)

    async def _share(self) -> float:
        """Let one worker do for all what the other two tasks do."""
        healthy = asyncio.get_running_loop().time() < self._failing_since + RESIGN
        await self._sweeper.exchange(self._waiters, willing=bool(self._all) and healthy)
        return self._config.poll_interval / TICKS

    async def _sweep(self) -> float:
        """Look at all by the list, if they are many; returns seconds until the next look."""
        interval = self._config.poll_interval
        if self._sweeper.elsewhere or not self._sweeping:
            return interval / TICKS
        sweep, began = ListPass(self._all, self._pause), asyncio.get_running_loop().time()
        try:
            await sweep.read(self._replicate, self._gate)
        except Exception:
            self._distrust()
            raise
        self._failing_since = math.inf
        last, self._swept_at = began - self._swept_at, began
        self._pause = pause(sweep, last, interval, self._config.reads_per_minute)
        return self._pause

    async def _ask_some(self) -> float:
        """Look one by one at what the list does not show, those first that waited longest for it."""
        interval, sweeping = self._config.poll_interval, self._sweeping
        least = max(self._pause, interval) if sweeping else interval
        asked = [waiter for waiter in self._all.values() if self._to_ask(waiter, least, sweeping=sweeping)]
        asked.sort(key=lambda waiter: (waiter.asked_at, waiter.since))
        share = self._config.reads_per_minute / 60 * interval / TICKS / 2
        asked = asked[: max(int(share), 1)] or self._sample()
        problems = await asyncio.gather(*map(self._ask, asked), return_exceptions=True)
        for error in filter(None, problems):
            raise error
        return interval / TICKS

    def _to_ask(self, waiter: Waiter, least: float, *, sweeping: bool) -> bool:
        if self._overdue(waiter):
            return waiter.due(least, most=0)
        return not (waiter.listed and sweeping) and waiter.due(least)

    def _sample(self) -> list[Waiter]:
        """One of those that the list shows, from time to time: it may be behind."""
        now = asyncio.get_running_loop().time()
        before = now - SAMPLE * self._config.poll_interval
        older = [waiter for waiter in self._all.values() if waiter.known_at < before]
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
        waiter.missed, self._failing_since = 0, math.inf
        if prediction.terminal or self._overdue(waiter):
            if self._hidden(waiter, prediction):
                self._distrust()
            waiter.end(prediction)

    def _hidden(self, waiter: Waiter, prediction: Prediction) -> bool:
        """Tell whether the last sweep, here or elsewhere, should have shown that it had ended."""
        ended, now = prediction.time("completed_at"), asyncio.get_running_loop().time()
        swept_at = now if self._sweeper.elsewhere else self._swept_at
        if ended is None or not waiter.listed or waiter.known_at > swept_at:
            return False
        return ended + BEHIND < time.time() - (now - swept_at) + self._replicate.clock_offset

    def _distrust(self) -> None:
        self._distrust_until = asyncio.get_running_loop().time() + DISTRUST * self._config.poll_interval

    def _overdue(self, waiter: Waiter, more: float = 0.0) -> bool:
        return time.time() > waiter.since + self._config.deadline + GRACE + more
