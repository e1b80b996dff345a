"""A worker's poller: it waits for predictions to end, within the read budget. Of several workers one polls for all."""

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
from worker.polling.time_ranges import Segment
from worker.polling.waiter import Waiter
from worker.telemetry import metrics

logger = logging.getLogger(__name__)


class Poller:
    """`await poller.wait(…)`. Three tasks poll for all waiters: by the list, by id, and by messages with the leader."""

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
        self._list_segments: list[Segment] | None = []

    @property
    def in_flight(self) -> int:
        """How many predictions are waited for."""
        return len(self._waiters)

    async def wait(self, prediction_id: str, since: float, *, is_private: bool = False) -> Prediction:
        """Return the prediction when it has ended, or as last seen when it is overdue.

        Raises NotFound when Replicate does not know it. `since`: when it was intended, Unix seconds. One that
        `is_private` is polled by this worker, since the leader would send it through Redis.
        """
        waiter = self._waiters.get(prediction_id) or Waiter.begin(prediction_id, since, is_private=is_private)
        self._waiters[prediction_id] = waiter
        self._wake.set()
        try:
            prediction = await asyncio.shield(waiter.ended)
            metrics.observe_detection(prediction.time("completed_at"), self._replicate.clock_offset)
            return prediction
        finally:
            self._waiters.pop(prediction_id, None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll until the block ends."""
        tasks = [asyncio.create_task(self._repeat(act)) for act in (self._exchange, self._poll_list, self._poll_by_id)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.leader.step_down()

    async def _repeat(self, act: Callable[[], Awaitable[float]]) -> None:
        """Repeat `act` while somebody waits; it returns the seconds from its start to the next one."""
        loop = asyncio.get_running_loop()
        while True:
            if not (self._watched or self.leader.is_leader):
                self._wake.clear()
                await self._wake.wait()
            began, rest = loop.time(), self._config.poll_interval
            try:
                rest = await act()
            except ReplicateError as error:
                logger.debug("polling failed: %s", error)  # the gate logs what a user should know
                self._failing_since = min(self._failing_since, loop.time())
            except RedisError as error:
                logger.debug("no messages exchanged: %s", error)
            except Exception:  # an end of this task would leave all waiting for ever
                logger.exception("! polling failed unexpectedly, will be retried")
            await asyncio.sleep(max(began + rest - loop.time(), 0.01))

    @property
    def _watched(self) -> dict[str, Waiter]:
        return self.leader.others | self._waiters if self.leader.others else self._waiters

    @property
    def _uses_list(self) -> bool:
        trusted = asyncio.get_running_loop().time() >= self._distrust_until
        return policy.uses_list(len(self._watched), is_trusted=trusted, is_read_elsewhere=self.leader.is_elsewhere)

    async def _exchange(self) -> float:
        """Exchange messages, so that one worker polls for all."""
        is_healthy = asyncio.get_running_loop().time() < self._failing_since + self._timing.step_down
        await self.leader.exchange(self._waiters, willing=bool(self._watched) and is_healthy)
        alone = self.leader.is_leader and not self.leader.others
        return self._config.poll_interval / (1 if alone else policy.TICKS)

    async def _poll_list(self) -> float:
        """Read the list if there are many predictions; returns the seconds until the next pass."""
        interval = self._config.poll_interval
        if self.leader.is_elsewhere or not self._uses_list:
            return interval / policy.TICKS
        list_pass = ListPass(dict(self._watched), self._pause, self._list_segments)
        began = asyncio.get_running_loop().time()
        try:
            await list_pass.read(self._replicate, self._gate)
        except Exception:
            self._distrust()
            raise
        self._failing_since, self._list_segments = math.inf, list_pass.learned
        last, self._listed_at = began - self._listed_at, began
        self._pause = policy.pause_after(list_pass.facts(last), interval, self._config.reads_per_minute)
        return self._pause

    async def _poll_by_id(self) -> float:
        """Poll those that the list does not show, the longest not polled first."""
        interval, uses_list = self._config.poll_interval, self._uses_list
        least = max(self._pause, interval) if uses_list else interval
        overdue_before = policy.overdue_before(time.time(), self._config.deadline, self._timing)
        due = [
            waiter
            for waiter in self._watched.values()
            if self._is_due(waiter, least, overdue_before, uses_list=uses_list)
        ]
        due.sort(key=lambda waiter: (waiter.polled_at, waiter.since))
        due = due[: policy.polls_per_tick(self._config.reads_per_minute, interval)] or self._sample()
        problems = await asyncio.gather(*map(self._poll_one, due), return_exceptions=True)
        for error in filter(None, problems):
            raise error
        return interval / policy.TICKS

    def _is_due(self, waiter: Waiter, least: float, overdue_before: float, *, uses_list: bool) -> bool:
        if waiter.since < overdue_before:
            return waiter.is_due(least, most=0)
        is_read = waiter.is_listed and uses_list and not (waiter.is_private and self.leader.is_elsewhere)
        return not is_read and waiter.is_due(least)

    def _sample(self) -> list[Waiter]:
        """From time to time one of those that the list shows, to test whether it is up to date."""
        now = asyncio.get_running_loop().time()
        before = now - self._timing.sample * self._config.poll_interval
        if self._sampled_at > before:
            return []
        older = [waiter for waiter in self._watched.values() if waiter.known_at < before]
        if not older:
            return []
        self._sampled_at = now
        return [min(older, key=lambda waiter: (waiter.polled_at, waiter.since))]

    async def _poll_one(self, waiter: Waiter) -> None:
        async with self._gate.request("read"):
            waiter.polled_at = waiter.seen_at = asyncio.get_running_loop().time()
            try:
                prediction = await self._replicate.get(waiter.prediction_id)
            except NotFound as error:
                waiter.missed += 1
                if policy.is_missing(waiter.missed, waiter.age):
                    waiter.fail(error)
                return
            except Unanswered as error:
                if policy.is_gone(waiter.age, self._config.deadline, self._timing):
                    waiter.fail(NotFound(str(error), prediction_id=waiter.prediction_id))
                raise
        waiter.missed, self._failing_since = 0, math.inf
        if prediction.terminal or policy.is_overdue(waiter.age, self._config.deadline, self._timing):
            if self._is_hidden(waiter, prediction):
                self._distrust()
            waiter.resolve(prediction)

    def _is_hidden(self, waiter: Waiter, prediction: Prediction) -> bool:
        """Whether the last pass over the list should have shown that it had ended."""
        ended, now = prediction.time("completed_at"), asyncio.get_running_loop().time()
        listed_at = now if self.leader.is_elsewhere else self._listed_at
        if ended is None or not waiter.is_listed or waiter.known_at > listed_at:
            return False
        return policy.is_hidden(ended - self._replicate.clock_offset, time.time() - (now - listed_at), self._timing)

    def _distrust(self) -> None:
        now = asyncio.get_running_loop().time()
        self._distrust_until = now + self._timing.distrust * self._config.poll_interval
