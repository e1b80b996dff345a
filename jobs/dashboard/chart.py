"""What ended in the last hours, as a chart: plain numbers that a template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.dashboard.index.store import Minute
from jobs.prices.money import dollars

BARS = 90
SPANS = (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
"""Seconds that a bar may stand for."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One span of time; heights are shares of the highest bar, `start` is in Unix seconds."""

    start: int
    succeeded: int
    other: int
    cost: float
    succeeded_height: float
    other_height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, oldest first, each `span` seconds long; `most` prompts ended in the highest one."""

    span: int
    bars: tuple[Bar, ...]
    most: int

    @property
    def per_minute(self) -> float:
        """How many results a minute the highest bar stands for."""
        return self.most * 60 / self.span


def choose_span(seconds: float) -> int:
    """The seconds that a bar stands for, so that a time that long fits."""
    return next((span for span in SPANS if span * BARS >= seconds), SPANS[-1])


def first_start(span: int, now: float) -> int:
    """When the first of the last BARS spans begins, Unix seconds."""
    return (int(now) // span - (BARS - 1)) * span


def draw(minutes: Sequence[Minute], span: int, now: float) -> Chart:
    """The chart of the last BARS spans; one without any result is a bar without height."""
    first = first_start(span, now)
    found = {minute.start: minute for minute in minutes}
    spans = [found.get(start, Minute(start, 0, 0, 0)) for start in range(first, first + BARS * span, span)]
    most = max(one.succeeded + one.other for one in spans)
    scale = 1 / most if most else 0.0
    bars = (
        Bar(one.start, one.succeeded, one.other, dollars(one.cost), one.succeeded * scale, one.other * scale)
        for one in spans
    )
    return Chart(span, tuple(bars), most)
