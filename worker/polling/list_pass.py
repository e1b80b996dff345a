"""Passes over the account's list of predictions: one request shows the status of 100."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from jobs.replicate_api.predictions import Page, Prediction, Replicate
from worker.limits.request_gate import RequestGate
from worker.polling.poll_policy import MARGIN, PassFacts, is_worth_another_page
from worker.polling.waiter import Waiter


async def list_pages(
    replicate: Replicate, gate: RequestGate, since: float, until: float | None = None
) -> AsyncIterator[Page]:
    """Pages of predictions created in a span of Unix seconds by our clock, newest first; each passes the gate."""
    offset, cursor = replicate.clock_offset, None
    read: set[str | None] = set()
    until = until + offset if until else None
    while True:
        async with gate.request("read"):
            page = await replicate.list(since=since + offset, until=until, cursor=cursor)
        yield page
        read.add(cursor)
        cursor = page.next
        if cursor is None or cursor in read:  # a cursor that was read already: the list goes in circles
            return


class ListPass:
    """One pass over the list, newest page first, for the waiters there are when it begins."""

    def __init__(self, waiters: Mapping[str, Waiter], pause: float) -> None:
        self._waiters = waiters
        self._pause = pause
        self._began = asyncio.get_running_loop().time()
        self._unseen = {id_: waiter for id_, waiter in waiters.items() if waiter.known_at <= self._began}
        self._most_pages = len(waiters) // 10 + 1
        self._newest: float | None = None
        self._pages = self._ended = 0
        self._oldest = max(waiter.age for waiter in waiters.values())

    async def read(self, replicate: Replicate, gate: RequestGate) -> None:
        """Resolve the waiters of what has ended; leave the rest to polls by id when those are cheaper."""
        async for page in list_pages(replicate, gate, time.time() - self._oldest - MARGIN):
            self._pages += 1
            for prediction in page.predictions:
                self._update_waiter(prediction)
            if self._pages >= self._most_pages or not self._is_worth_another(page, replicate.clock_offset):
                break
        for waiter in self._unseen.values():
            waiter.is_listed = False

    def facts(self, last: float) -> PassFacts:
        """The facts of this pass; the last one began `last` seconds earlier."""
        return PassFacts(self._pages, self._ended, self._oldest, last)

    def _update_waiter(self, prediction: Prediction) -> None:
        if waiter := self._waiters.get(prediction.id):
            self._unseen.pop(prediction.id, None)
            waiter.seen_at, waiter.is_listed = self._began, True
            if not prediction.terminal:
                return
            if prediction.status == "succeeded" and "output" not in prediction.raw:
                waiter.poll_soon()  # the list may leave the output out
                return
            self._ended += not waiter.ended.done()
            waiter.resolve(prediction)

    def _is_worth_another(self, page: Page, clock_offset: float) -> bool:
        rows = (*page.predictions[:1], *page.predictions[-1:])
        created = [at - clock_offset for row in rows if (at := row.time("created_at"))]
        self._newest = self._newest or (created[0] if created else None)
        span = (self._newest, created[-1]) if created and self._newest else None
        unseen = [waiter.since for waiter in self._unseen.values() if waiter.is_listed or waiter.is_due(self._pause)]
        return is_worth_another_page(span, unseen, self._pages)
