"""Passes over the account's list of predictions: one request shows the status of 100."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from jobs.replicate_api.predictions import Page, Prediction, Replicate
from worker.limits.request_gate import RequestGate
from worker.polling.poll_policy import MARGIN, PassFacts, is_worth_another_page
from worker.polling.time_ranges import STEP, Segment, TimeRange, segments, select, split
from worker.polling.waiter import Waiter

OUTSIDE = 0.01
"""Seconds that the first row of a page may be newer than its range, if the list is read by ranges at all."""


async def list_pages(
    replicate: Replicate, gate: RequestGate, since: float, until: float | None = None, offset: float | None = None
) -> AsyncIterator[Page]:
    """Pages of predictions created in a span of Unix seconds, newest first; each passes the gate.

    The span is by our clock; `offset` is what to add for the API's, if not what its last answer tells.
    """
    offset, cursor = replicate.clock_offset if offset is None else offset, None
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


def _times(rows: Iterable[Prediction]) -> list[float]:
    return [at for row in rows if (at := row.time("created_at"))]


class ListPass:
    """One pass over the list for the waiters there are when it begins, its pages read at once by ranges of time.

    `known` is what the last pass learned of the list, empty if the API ignores ranges.
    """

    def __init__(self, waiters: Mapping[str, Waiter], pause: float, known: list[Segment] | None = None) -> None:
        self._waiters = waiters
        self._pause = pause
        self._known = known
        self.learned: list[Segment] | None = []
        """What the next pass may know; None if the API ignores ranges."""

        self._began = asyncio.get_running_loop().time()
        self._unseen = {id_: waiter for id_, waiter in waiters.items() if waiter.known_at <= self._began}
        self._most_pages = len(waiters) // 10 + 1
        self._pages = self._ended = 0
        self._oldest = max(waiter.age for waiter in waiters.values())

    async def read(self, replicate: Replicate, gate: RequestGate) -> None:
        """Resolve the waiters of what has ended; leave the rest to polls by id when those are cheaper."""
        offset = replicate.clock_offset
        ranges = self._ranges(time.time() - self._oldest - MARGIN + offset, offset)
        wanted = sorted(waiter.created or waiter.since + offset for waiter in self._wanted())
        chosen = select(ranges, wanted, self._most_pages)
        found = await asyncio.gather(
            *(self._read_range(replicate, gate, one, offset) for one in chosen), return_exceptions=True
        )
        for error in found:
            if isinstance(error, BaseException):
                raise error
        for waiter in self._unseen.values():
            waiter.is_listed = False
        self._learn(ranges, dict(zip(chosen, found, strict=True)))  # type: ignore[arg-type]  # errors were raised

    def facts(self, last: float) -> PassFacts:
        """The facts of this pass; the last one began `last` seconds earlier."""
        return PassFacts(self._pages, self._ended, self._oldest, last)

    def _ranges(self, since: float, offset: float) -> list[TimeRange]:
        if self._known is None:
            self.learned = None
            return [TimeRange(since, None, len(self._waiters))]
        new = (waiter.since + offset for waiter in self._waiters.values() if waiter.created is None)
        return split(since, self._known, new)

    def _wanted(self) -> list[Waiter]:
        return [waiter for waiter in self._unseen.values() if waiter.is_listed or waiter.is_due(self._pause)]

    async def _read_range(
        self, replicate: Replicate, gate: RequestGate, one: TimeRange, offset: float
    ) -> list[Segment]:
        until = None if one.until is None else one.until - offset
        rows: list[Prediction] = []
        pages = 0
        async for page in list_pages(replicate, gate, one.since - offset, until, offset):
            self._pages += 1
            pages += 1
            rows += page.predictions
            for prediction in page.predictions:
                self._update_waiter(prediction)
            if one.until and (newest := _times(rows[:1])) and newest[0] > one.until + OUTSIDE:
                self.learned = None
                return []
            if self._pages >= self._most_pages or not self._is_worth_another(one, rows, pages, offset):
                return segments(one, _times(rows[STEP - 1 :: STEP]), len(rows), is_read_whole=page.next is None)
        return segments(one, _times(rows[STEP - 1 :: STEP]), len(rows), is_read_whole=True)

    def _learn(self, ranges: list[TimeRange], found: Mapping[TimeRange, list[Segment]]) -> None:
        if self.learned is not None:
            for one in ranges:
                self.learned += found.get(one, [Segment(one.since, one.rows)])

    def _update_waiter(self, prediction: Prediction) -> None:
        if waiter := self._waiters.get(prediction.id):
            self._unseen.pop(prediction.id, None)
            waiter.seen_at, waiter.is_listed = self._began, True
            waiter.created = waiter.created or prediction.time("created_at")
            if not prediction.terminal:
                return
            if prediction.status == "succeeded" and "output" not in prediction.raw:
                waiter.poll_soon()  # the list may leave the output out
                return
            self._ended += not waiter.ended.done()
            waiter.resolve(prediction)

    def _is_worth_another(self, one: TimeRange, rows: Sequence[Prediction], pages: int, offset: float) -> bool:
        created = _times([*rows[:1], *rows[-1:]])
        span = (created[0], created[-1]) if created else None
        times = (waiter.created or waiter.since + offset for waiter in self._wanted())
        unseen = [at for at in times if at >= one.since and (one.until is None or at < one.until)]
        return is_worth_another_page(span, unseen, pages)
