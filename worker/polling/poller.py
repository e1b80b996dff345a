"""One poller a worker: it learns when predictions end, within the read budget. Of several workers one asks for all."""

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
from jobs.replicate_api.predictions import Prediction, Replicate
from worker.limits.request_gate import RequestGate
from worker.polling import poll_policy as policy
from worker.polling.leader import PollingLeader
from worker.polling.list_pass import ListPass
from worker.polling.waiter import Waiter

logger = logging.getLogger(__name__)


class Poller:
    """`await poller.wait(…)`: three tasks ask for all that wait: by the list, by ids, and other workers."""

    def __init__(self, replicate: Replicate, gate: RequestGate, config: Config, leader: PollingLeader) -> None:
        self._replicate = replicate
        self._gate = gate
        self._config = config
        self.leader = leader
        self._timing = leader.timing
        self._waiters: dict[str, Waiter] = {}
        self._wake = asyncio.Event()
        self._listed_at = self._sampled_at = self._distrust_until = 0.0
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
        tasks = [asyncio.create_task(self._repeat(act)) for act in (self._exchange, self._read_list, self._ask_some)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.leader.step_down()

    async def _repeat(self, act: Callable[[], Awaitable[float]]) -> None:
        """Act again and again while somebody waits, each time so many seconds after the last began as it says."""
        loop = asyncio.get_running_loop()
        while True:
            if not (self._all or self.leader.is_leader):
                self._wake.clear()
                await self._wake.wait()
            began, rest = loop.time(), self._config.poll_interval
            try:
                rest = await act()
            except ReplicateError as error:
                logger.debug("a pass ended early: %s", error)  # the gate has logged what concerns people
                self._failing_since = min(self._failing_since, loop.time())
            except RedisError as error:
                logger.debug("not shared: %s", error)
            except Exception:  # all that wait would wait for ever
                logger.exception("! polling failed unexpectedly, will be retried")
            await asyncio.sleep(max(began + rest - loop.time(), 0.01))

    @property
    def _all(self) -> dict[str, Waiter]:
        return self.leader.others | self._waiters

    @property
    def _uses_list(self) -> bool:
        trusted = asyncio.get_running_loop().time() >= self._distrust_until
        return policy.uses_list(len(self._all), is_trusted=trusted, is_read_elsewhere=self.leader.is_elsewhere)

    async def _exchange(self) -> float:
        """Let one worker do for all what the other two tasks do."""
        healthy = asyncio.get_running_loop().time() < self._failing_since + self._timing.step_down
        await self.leader.exchange(self._waiters, willing=bool(self._all) and healthy)
        return self._config.poll_interval / policy.TICKS

    async def _read_list(self) -> float:
        """Look at all by the list, if they are many; returns seconds until the next pass."""
        interval = self._config.poll_interval
        if self.leader.is_elsewhere or not self._uses_list:
            return interval / policy.TICKS
        list_pass, began = ListPass(self._all, self._pause), asyncio.get_running_loop().time()
        try:
            await list_pass.read(self._replicate, self._gate)
        except Exception:
            self._distrust()
            raise
        self._failing_since = math.inf
        last, self._listed_at = began - self._listed_at, began
        self._pause = policy.pause_after(list_pass.facts(last), interval, self._config.reads_per_minute)
        return self._pause

    async def _ask_some(self) -> float:
        """Ask by their ids for those that the list does not show, first for those that have waited longest for it."""
        interval, uses_list = self._config.poll_interval, self._uses_list
        least = max(self._pause, interval) if uses_list else interval
        asked = [waiter for waiter in self._all.values() if self._is_to_ask(waiter, least, uses_list=uses_list)]
        asked.sort(key=lambda waiter: (waiter.asked_at, waiter.since))
        asked = asked[: policy.asks_at_once(self._config.reads_per_minute, interval)] or self._sample()
        problems = await asyncio.gather(*map(self._ask, asked), return_exceptions=True)
        for error in filter(None, problems):
            raise error
        return interval / policy.TICKS

    def _is_to_ask(self, waiter: Waiter, least: float, *, uses_list: bool) -> bool:
        if policy.is_overdue(waiter.age, self._config.deadline):
            return waiter.is_due(least, most=0)
        return not (waiter.is_listed and uses_list) and waiter.is_due(least)

    def _sample(self) -> list[Waiter]:
        """One of those that the list shows, from time to time: it may be behind."""
        now = asyncio.get_running_loop().time()
        before = now - self._timing.sample * self._config.poll_interval
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
                if policy.is_missing(waiter.missed, waiter.age):
                    waiter.lose(error)
                return
            except Unanswered as error:
                if policy.is_gone(waiter.age, self._config.deadline):
                    waiter.lose(NotFound(str(error), prediction_id=waiter.prediction_id))
                raise
        waiter.missed, self._failing_since = 0, math.inf
        if prediction.terminal or policy.is_overdue(waiter.age, self._config.deadline):
            if self._is_hidden(waiter, prediction):
                self._distrust()
            waiter.end(prediction)

    def _is_hidden(self, waiter: Waiter, prediction: Prediction) -> bool:
        """Whether the last pass, here or elsewhere, should have shown that it had ended."""
        ended, now = prediction.time("completed_at"), asyncio.get_running_loop().time()
        listed_at = now if self.leader.is_elsewhere else self._listed_at
        if ended is None or not waiter.is_listed or waiter.known_at > listed_at:
            return False
        return policy.is_hidden(ended - self._replicate.clock_offset, time.time() - (now - listed_at), self._timing)

    def _distrust(self) -> None:
        now = asyncio.get_running_loop().time()
        self._distrust_until = now + self._timing.distrust * self._config.poll_interval
