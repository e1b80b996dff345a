"""One poller a worker: it learns when predictions end.

While many are in flight it sweeps the list, 100 predictions a request; the few, the old and those that the list does
not show are asked one by one. All of it within the read budget.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from jobs.config import Config
from jobs.errors import NotFound, ReplicateError, Unanswered
from worker.backlog import RETENTION
from worker.gate import Gate
from worker.listing import list_pages
from worker.replicate import Prediction, Replicate

logger = logging.getLogger("worker.polling")

SWEEP_FROM = 5
"""Fewer predictions in flight than this are asked one by one."""

MARGIN = 10.0
"""Seconds by which a prediction may seem older than its intent: clocks differ. More than that, a GET makes up for."""

SKIP = 10
"""Passes without a sweep after one that failed: meanwhile all are asked one by one."""

BELIEVE_MISSING, NEW = 3, 60.0
"""Looks in a row that find no such prediction until it is believed, and for how long it may be too new to be known."""

GRACE = 60.0
"""Seconds past the deadline after which a prediction that has not ended is overdue."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One prediction that somebody waits for; `since` is when it was intended, Unix seconds by our clock."""

    prediction_id: str
    since: float
    asked_at: float = 0.0
    missed: int = 0
    ended: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Poller:
    """`await poller.wait(…)`: one task asks for all that wait."""

    def __init__(self, replicate: Replicate, gate: Gate, config: Config) -> None:
        self._replicate = replicate
        self._gate = gate
        self._config = config
        self._waiters: dict[str, Waiter] = {}
        self._wake = asyncio.Event()
        self._sweeps_to_skip = 0

    @property
    def in_flight(self) -> int:
        """How many predictions are waited for."""
        return len(self._waiters)

    async def wait(self, prediction_id: str, since: float) -> Prediction:
        """Return the prediction when it has ended, or as last seen when it is overdue.

        Raises NotFound when Replicate does not know it. `since`: when it was intended, Unix seconds.
        """
        waiter = self._waiters.setdefault(prediction_id, Waiter(prediction_id, since))
        waiter.ended.add_done_callback(_retrieve)
        self._wake.set()
        try:
            return await asyncio.shield(waiter.ended)
        finally:
            self._waiters.pop(prediction_id, None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll until the block ends."""
        task = asyncio.create_task(self._poll_for_ever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _poll_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiters:
                self._wake.clear()
                await self._wake.wait()
            next_pass = loop.time() + self._config.poll_interval
            try:
                await self._pass()
            except ReplicateError as error:
                logger.debug("a pass ended early: %s", error)  # the gate has told what concerns people
            except Exception:  # whatever it is, all that wait would wait for ever
                logger.exception("! polling failed unexpectedly; trying on")
            await asyncio.sleep(max(next_pass - loop.time(), 0.01))

    async def _pass(self) -> None:
        """Look once: by the list while many are in flight, then one by one at what it did not show."""
        seen: set[str] = set()
        problems: list[BaseException | None] = []
        if len(self._waiters) >= SWEEP_FROM and not self._sweeps_to_skip:
            problems += await asyncio.gather(self._sweep(seen), return_exceptions=True)
            self._sweeps_to_skip = SKIP if problems[0] else 0
        else:
            self._sweeps_to_skip = max(self._sweeps_to_skip - 1, 0)
        rest = [
            waiter for waiter in self._waiters.values() if waiter.prediction_id not in seen or self._overdue(waiter)
        ]
        rest.sort(key=lambda waiter: (waiter.asked_at, waiter.since))
        share = self._config.reads_per_minute / 60 * self._config.poll_interval / 2
        asked = rest[: max(int(share), SWEEP_FROM)]
        problems += await asyncio.gather(*(self._ask(waiter) for waiter in asked), return_exceptions=True)
        for error in filter(None, problems):
            raise error

    async def _sweep(self, seen: set[str]) -> None:
        """Read the list from its newest page back, until the rest is cheaper to ask one by one."""
        oldest = min(waiter.since for waiter in self._waiters.values())
        most = len(self._waiters) // 10 + 1
        read = 0
        async for page in list_pages(self._replicate, self._gate, oldest - MARGIN):
            seen.update(self._notice(page.predictions))
            read += 1
            unseen = sum(id_ not in seen for id_ in self._waiters)
            if read >= most or unseen <= read:
                return

    def _notice(self, predictions: Iterable[Prediction]) -> list[str]:
        """Wake those whose prediction has ended; return the ids of ours that need not be asked for."""
        ours = []
        for prediction in predictions:
            if waiter := self._waiters.get(prediction.id):
                if prediction.status == "succeeded" and "output" not in prediction.raw:
                    continue  # the list may leave it out; a GET does not
                ours.append(prediction.id)
                if prediction.terminal:
                    _end(waiter, prediction)
        return ours

    async def _ask(self, waiter: Waiter) -> None:
        async with self._gate.passing("read"):
            waiter.asked_at = asyncio.get_running_loop().time()
            try:
                prediction = await self._replicate.get(waiter.prediction_id)
            except NotFound as error:
                waiter.missed += 1
                if waiter.missed >= BELIEVE_MISSING and time.time() > waiter.since + NEW:
                    _lose(waiter, error)
                return
            except Unanswered as error:
                if self._overdue(waiter, RETENTION):  # its output is gone, too
                    _lose(waiter, NotFound(str(error), prediction_id=waiter.prediction_id))
                raise
        waiter.missed = 0
        if prediction.terminal or self._overdue(waiter):
            _end(waiter, prediction)

    def _overdue(self, waiter: Waiter, more: float = 0.0) -> bool:
        return time.time() > waiter.since + self._config.deadline + GRACE + more


def _retrieve(ended: asyncio.Future[Prediction]) -> None:
    """Nobody may wait any more when it ends: that is no error to be logged."""
    if not ended.cancelled():
        ended.exception()


def _end(waiter: Waiter, prediction: Prediction) -> None:
    if not waiter.ended.done():
        waiter.ended.set_result(prediction)


def _lose(waiter: Waiter, error: NotFound) -> None:
    if not waiter.ended.done():
        waiter.ended.set_exception(error)
