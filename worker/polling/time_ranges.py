"""How a pass over the list is split into time ranges, whose pages are read at once. Pure; times are the API's.

A row never moves to another time, so what one pass saw says how many rows each range has in the next one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jobs.replicate_api.predictions import PAGE_ROWS

STEP = 10
"""Rows of a segment: ranges begin and end between two of them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """So many rows were created from `start` until the next segment."""

    start: float
    rows: int


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `since` until before `until`, None: now; about so many rows."""

    since: float
    until: float | None
    rows: int

    def count(self, times: Sequence[float]) -> int:
        """How many of these sorted times are in it."""
        end = len(times) if self.until is None else bisect_left(times, self.until)
        return end - bisect_left(times, self.since)


def split(since: float, known: Sequence[Segment], new: Iterable[float]) -> list[TimeRange]:
    """Ranges from `since` until now, oldest first, each of a page as far as known segments and `new` rows tell."""
    events = sorted([*((one.start, one.rows) for one in _from(since, known)), *((max(at, since), 1) for at in new)])
    starts, rows = [since], [0]
    for at, count in events:
        if rows[-1] + count > PAGE_ROWS and at > starts[-1]:
            starts.append(at)
            rows.append(0)
        rows[-1] += count
    ends = [*starts[1:], None]
    return [TimeRange(*one) for one in zip(starts, ends, rows, strict=True)]


def _from(since: float, known: Sequence[Segment]) -> Iterator[Segment]:
    """The segments that do not end before that, the first one cut."""
    for one, following in pairwise([*known, None]):
        if one and (following is None or following.start > since):
            yield Segment(max(one.start, since), one.rows)


def select(ranges: Sequence[TimeRange], wanted: Sequence[float], most: int) -> list[TimeRange]:
    """The ranges, newest first and at most so many, that show more of the sorted `wanted` times than one; the newest.

    A single one is polled by its id for the price of a page.
    """
    chosen = [one for one in reversed(ranges) if one.until is None or one.count(wanted) > 1]
    return chosen[:most]


def segments(whole: TimeRange, starts: Sequence[float], rows: int, *, is_read_whole: bool) -> list[Segment]:
    """What was learned of a range by so many of its rows; `starts` are the times of each tenth, newest first."""
    found = [Segment(start, STEP) for start in starts]
    rest = rows - STEP * len(starts)
    left = rest if is_read_whole else max(whole.rows - STEP * len(starts), rest)
    return [Segment(whole.since, left), *reversed(found)] if left or not found else [*reversed(found)]
