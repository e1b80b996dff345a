"""Sweeps of the account's list: one request shows how 100 predictions stand."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping

from jobs.replicate_api.predictions import Page, Prediction, Replicate
from worker.limits.request_gate import RequestGate
from worker.polling.listing import list_pages
from worker.polling.waiter import Waiter

SWEEP_FROM = 5
"""Fewer predictions in flight than this are asked one by one."""

MARGIN = 10.0
"""Seconds by which a prediction may seem older than its intent: clocks differ. More than that, a GET makes up for."""

WORTH = 0.8
"""Seconds of one prediction's waiting for its end to be noticed that are worth a request."""

DENSE = 4
"""Pages of a sweep for which POLL_INTERVAL is the shortest pause; one of fewer may follow sooner, of more later."""

LEAST_PAUSE = 1.5
"""Poll intervals that may always be between two sweeps, however many pages they have."""

MOST_PAUSE = 4
"""The longest pause between two sweeps, in poll intervals."""


class ListPass:
    """One pass over the list, from its newest page back, for those who waited when it began."""

    def __init__(self, waiters: Mapping[str, Waiter], pause: float) -> None:
        self._waiters = waiters
        self._pause = pause
        self._began = asyncio.get_running_loop().time()
        self._unseen = {id_: waiter for id_, waiter in waiters.items() if waiter.known_at <= self._began}
        self._most = len(waiters) // 10 + 1
        self._newest: float | None = None
        self.pages = self.ended = 0
        self.oldest = time.time() - min(waiter.since for waiter in waiters.values())

    async def read(self, replicate: Replicate, gate: RequestGate) -> None:
        """Wake those who waited for what has ended; leave it to GETs when the rest is cheaper to ask one by one."""
        async for page in list_pages(replicate, gate, time.time() - self.oldest - MARGIN):
            self.pages += 1
            for prediction in page.predictions:
                self._notice(prediction)
            if self.pages >= self._most or not self._worth_another(page, replicate.clock_offset):
                break
        for waiter in self._unseen.values():
            waiter.listed = False

    def _notice(self, prediction: Prediction) -> None:
        if waiter := self._waiters.get(prediction.id):
            self._unseen.pop(prediction.id, None)
            waiter.looked_at, waiter.listed = self._began, True
            if not prediction.terminal:
                return
            if prediction.status == "succeeded" and "output" not in prediction.raw:
                waiter.looked_at, waiter.listed = 0.0, False  # the list may leave it out; a GET does not
                return
            self.ended += not waiter.ended.done()
            waiter.end(prediction)

    def _worth_another(self, page: Page, clock_offset: float) -> bool:
        """Whether the next pages, if they are like those read so far, show more of the unseen than they cost."""
        made = [at for row in (*page.predictions[:1], *page.predictions[-1:]) if (at := row.time("created_at"))]
        unseen = [waiter.since for waiter in self._unseen.values() if waiter.listed or waiter.due(self._pause)]
        if not made:
            return len(unseen) > self.pages
        self._newest = self._newest or made[0]
        span = max((self._newest - made[-1]) / self.pages, 1e-6)
        reached = made[-1] - clock_offset
        return any(
            count > math.ceil((reached - since) / span) for count, since in enumerate(sorted(unseen, reverse=True), 1)
        )


def pause(sweep: ListPass, last: float, poll_interval: float, reads_per_minute: float) -> float:
    """Seconds until the next sweep, when the one before was `last` seconds ago.

    With `ended` in `last` seconds and so many `pages` a sweep, requests and waiting together cost least, when one
    request is worth WORTH seconds of one prediction's waiting, at sqrt(2 WORTH pages last / ended) between two sweeps.
    """
    last = last if last < 2 * MOST_PAUSE * poll_interval else poll_interval  # nobody waited meanwhile
    cheapest = math.sqrt(2 * WORTH * sweep.pages * last / max(sweep.ended, 1))
    most = min(max(sweep.oldest / 2, poll_interval), MOST_PAUSE * poll_interval)
    least = poll_interval * min(sweep.pages / DENSE, LEAST_PAUSE)
    within_budget = sweep.pages * 2 * 60 / reads_per_minute
    return max(min(cheapest, most), least, within_budget)
