"""When predictions are polled, by the list or by id. Pure: no clock, no I/O; all times are parameters, in seconds.

The list shows 100 predictions a request. If only a few are in flight, and for those that the list does not show, each
is polled by its id.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.replicate_api.predictions import RETENTION


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays that tests shorten; `distrust` and `sample` are in poll intervals."""

    distrust: float = 10
    """How long all predictions are polled by id after the list failed or was behind."""

    sample: float = 10
    """Between two GETs that test whether the list is up to date."""

    behind: float = 5.0
    """How far behind the list may be."""

    step_down: float = 10.0
    """A leader whose requests have failed for this long steps down, so that another worker can try."""

    leader: float = 3.0
    """How long a leader keeps its role without renewing it."""

    request_again: float = 5.0
    """Between two requests of a worker for the same prediction."""

    forget: float = 15.0
    """The leader forgets a request that was not repeated for this long."""

    grace: float = 60.0
    """Time past the deadline after which a prediction that has not ended is overdue."""

    retention: float = RETENTION
    """How long after that its output is deleted."""


LIST_FROM = 5
"""With fewer predictions in flight than this, each is polled by its id."""

TICKS = 5
"""Polls by id start this often in a poll interval."""

MARGIN = 10.0
"""How much older than its intent a prediction may seem, as clocks differ. One that seems older is polled by id."""

WORTH = 0.8
"""One request may save this many seconds of waiting for one ended prediction to be noticed."""

DENSE = 4
"""With this many pages in a pass the shortest pause is POLL_INTERVAL; with fewer it is shorter, with more longer."""

LEAST_PAUSE, MOST_PAUSE = 1.5, 4
"""In poll intervals: how far many pages lengthen the shortest pause, and the longest pause."""

PATIENCE, MOST_PATIENCE = 10, 5.0
"""By id it is polled after each tenth of its age, at least every 5 s: the end of a long one may be noticed later."""

JUST_CREATED = 5.0
"""A prediction whose intent is older was found again, not just created, so it is polled soon."""

BELIEVE_MISSING, NEW = 3, 60.0
"""How many 404s in a row are believed, and until what age a prediction may be too new to be known everywhere."""


def is_just_created(age: float) -> bool:
    """Whether the answer to its create shows its status well enough."""
    return age < JUST_CREATED


def is_due(since_seen: float, age: float, least: float, *, missed: int = 0, most: float = MOST_PATIENCE) -> bool:
    """Whether a prediction was last seen so long ago that it is worth a poll by its id."""
    patience = 0.0 if missed else min(age / PATIENCE, most)
    return since_seen >= max(patience, least)


def overdue_before(now: float, deadline: float, timing: Timing) -> float:
    """The time of intent before which predictions should have ended by now."""
    return now - deadline - timing.grace


def is_overdue(age: float, deadline: float, timing: Timing) -> bool:
    """Whether a prediction of that age should have ended by now."""
    return overdue_before(age, deadline, timing) > 0


def is_gone(age: float, deadline: float, timing: Timing) -> bool:
    """Whether it has been overdue for so long that its output is deleted."""
    return is_overdue(age, deadline + timing.retention, timing)


def is_missing(missed: int, age: float) -> bool:
    """Whether `missed` 404s in a row mean that Replicate does not know the prediction."""
    return missed >= BELIEVE_MISSING and age > NEW


def uses_list(in_flight: int, *, is_trusted: bool, is_read_elsewhere: bool) -> bool:
    """Whether predictions are polled by the list, here or by the leader."""
    return is_trusted and (is_read_elsewhere or in_flight >= LIST_FROM)


def polls_per_tick(reads_per_minute: float, poll_interval: float) -> int:
    """How many are polled by id in one tick: half of the read budget."""
    return max(int(reads_per_minute / 60 * poll_interval / TICKS / 2), 1)


def is_hidden(ended_at: float, listed_at: float, timing: Timing) -> bool:
    """Whether a pass at `listed_at` should have shown that a prediction had ended."""
    return ended_at + timing.behind < listed_at


def is_worth_another_page(span: tuple[float, float] | None, unseen: Iterable[float], pages: int) -> bool:
    """Whether the next pages, if they are like the last ones, show more predictions than they cost requests.

    `span`: creation times of the newest and the oldest row so far, if known; `unseen`: times of intent of the
    predictions that none of the `pages` showed. All times are by one clock.
    """
    left = sorted(unseen, reverse=True)
    if not span:
        return len(left) > pages
    newest, oldest = span
    of_a_page = max((newest - oldest) / pages, 1e-6)
    return any(count > math.ceil((oldest - since) / of_a_page) for count, since in enumerate(left, 1))


@dataclass(frozen=True, slots=True)
class PassFacts:
    """One pass over the list: its pages, how many had ended, the age of the oldest, seconds since the last pass."""

    pages: int
    ended: int
    oldest: float
    last: float


def pause_after(done: PassFacts, poll_interval: float, reads_per_minute: float) -> float:
    """Seconds until the next pass over the list.

    A pause of sqrt(2 WORTH pages last / ended) minimizes the sum of requests and waiting, if one request is worth
    WORTH seconds of waiting and `ended` predictions end in `last` seconds.
    """
    last = done.last if done.last < 2 * MOST_PAUSE * poll_interval else poll_interval  # nobody waited meanwhile
    cheapest = math.sqrt(2 * WORTH * done.pages * last / max(done.ended, 1))
    most = min(max(done.oldest / 2, poll_interval), MOST_PAUSE * poll_interval)
    least = poll_interval * min(done.pages / DENSE, LEAST_PAUSE)
    within_budget = done.pages * 2 * 60 / reads_per_minute
    return max(min(cheapest, most), least, within_budget)
