"""The next fire times of all schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice

from pydantic import BaseModel

from jobs.schedules import cron
from jobs.schedules.file import Schedule


class FireTime(BaseModel):
    """When a schedule fires, RFC 3339 in its own zone, and the batch that it enqueues then."""

    time: str
    timezone: str
    schedule: str
    batch: str


def next_times(schedules: Iterable[Schedule], now: float, count: int) -> list[FireTime]:
    """The first fire times after `now` (Unix seconds), of all schedules together."""
    every = merge(*(_times(one, now) for one in schedules), key=lambda pair: pair[0])
    return [
        FireTime(
            time=cron.shown(fire, schedule.zone) or "",
            timezone=str(schedule.zone),
            schedule=schedule.name,
            batch=f"{schedule.name}-{cron.label(fire, schedule.zone)}",
        )
        for fire, schedule in islice(every, count)
    ]


def _times(schedule: Schedule, now: float) -> Iterator[tuple[float, Schedule]]:
    while (fire := cron.next_fire(schedule.cron, schedule.zone, now)) is not None:
        yield fire, schedule
        now = fire
