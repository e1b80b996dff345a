"""When predictions are asked for, and how. Pure: no clock, no I/O; all times are parameters, in seconds.

The list shows 100 predictions a request. The few, the old and those that it does not show are asked for one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.replicate_api.predictions import RETENTION


@dataclass(frozen=True, slots=True)
class Timing:
    """What tests shorten; `distrust` and `sample` are in poll intervals."""

    distrust: float = 10
    """How long all are asked for one by one after the list failed, or was behind."""

    sample: float = 10
    """Between two requests that test whether the list is up to date."""

    behind: float = 5.0
    """How far behind the list may be."""

    step_down: float = 10.0
    """Without any good answer for so long, a leader steps down: another worker may have more luck."""

    leader: float = 3.0
    """Another worker leads when the leader did not renew its role for so long."""

    publish_again: float = 5.0
    """Between two messages that say what a worker waits for."""

    forget: float = 15.0
    """What nobody said again for so long is waited for by nobody."""


LIST_FROM = 5
"""Fewer predictions in flight than this are asked for one by one."""

TICKS = 5
"""Looks in a poll interval at what there is to ask."""

MARGIN = 10.0
"""How much older than its intent a prediction may seem, as clocks differ. One that seems older is asked for by id."""

WORTH = 0.8
"""Seconds of one prediction's waiting for its end to be noticed that are worth a request."""

DENSE = 4
"""Pages of a pass for which POLL_INTERVAL is the shortest pause; one of fewer may follow sooner, of more later."""

LEAST_PAUSE, MOST_PAUSE = 1.5, 4
"""Poll intervals: the longest that many pages make the pause, and the longest at all."""

PATIENCE, MOST_PATIENCE = 10, 5.0
"""By id it is asked for after each tenth of its age, but every 5 s: the end of a long one may be noticed later."""

JUST_CREATED = 5.0
"""What was intended longer ago was not created just now, but found again: it is looked at soon."""

BELIEVE_MISSING, NEW = 3, 60.0
"""Answers in a row that there is no such prediction before they are believed; the age until which it may be too new."""

GRACE = 60.0
"""Past the deadline, after which a prediction that has not ended is overdue."""


def is_just_created(age: float) -> bool:
    """Whether the answer to its create was the first look at it."""
    return age < JUST_CREATED


def is_due(since_look: float, age: float, least: float, *, missed: int = 0, most: float = MOST_PATIENCE) -> bool:
    """Whether the last look at a prediction is so long ago that it is worth asking for by its id."""
    patience = 0.0 if missed else min(age / PATIENCE, most)
    return since_look >= max(patience, least)


def is_overdue(age: float, deadline: float) -> bool:
    """Whether a prediction should have ended long ago."""
    return age > deadline + GRACE


def is_gone(age: float, deadline: float) -> bool:
    """Whether it is overdue for so long that its output is deleted, too."""
    return is_overdue(age, deadline + RETENTION)


def is_missing(missed: int, age: float) -> bool:
    """Whether Replicate does not know it, after so many answers in a row that it does not."""
    return missed >= BELIEVE_MISSING and age > NEW


def uses_list(in_flight: int, *, is_trusted: bool, is_read_elsewhere: bool) -> bool:
    """Whether the list is the way to look, here or by the leader."""
    return is_trusted and (is_read_elsewhere or in_flight >= LIST_FROM)


def asks_at_once(reads_per_minute: float, poll_interval: float) -> int:
    """How many are asked for by id in one tick: half of the read budget."""
    return max(int(reads_per_minute / 60 * poll_interval / TICKS / 2), 1)


def is_hidden(ended_at: float, listed_at: float, timing: Timing) -> bool:
    """Whether a pass of that time should have shown that a prediction had ended."""
    return ended_at + timing.behind < listed_at


def is_worth_another_page(span: tuple[float, float] | None, unseen: Iterable[float], pages: int) -> bool:
    """Whether the next pages, if they are like those read so far, show more of the unseen than they cost.

    `span`: when the newest and the oldest row so far were created, if rows say so; `unseen`: when those were intended
    that are looked for and were on none of the `pages`. All by one clock.
    """
    left = sorted(unseen, reverse=True)
    if not span:
        return len(left) > pages
    newest, oldest = span
    of_a_page = max((newest - oldest) / pages, 1e-6)
    return any(count > math.ceil((oldest - since) / of_a_page) for count, since in enumerate(left, 1))


@dataclass(frozen=True, slots=True)
class PassFacts:
    """A pass over the list: its pages, how many had ended, the age of the oldest, seconds since the pass before."""

    pages: int
    ended: int
    oldest: float
    last: float


def pause_after(done: PassFacts, poll_interval: float, reads_per_minute: float) -> float:
    """Seconds until the next pass over the list.

    With `ended` in `last` seconds and so many `pages` a pass, requests and waiting together cost least, when one
    request is worth WORTH seconds of one prediction's waiting, at sqrt(2 WORTH pages last / ended) between two passes.
    """
    last = done.last if done.last < 2 * MOST_PAUSE * poll_interval else poll_interval  # nobody waited meanwhile
    cheapest = math.sqrt(2 * WORTH * done.pages * last / max(done.ended, 1))
    most = min(max(done.oldest / 2, poll_interval), MOST_PAUSE * poll_interval)
    least = poll_interval * min(done.pages / DENSE, LEAST_PAUSE)
    within_budget = done.pages * 2 * 60 / reads_per_minute
    return max(min(cheapest, most), least, within_budget)
