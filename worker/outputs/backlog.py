"""The retention clock: outputs live an hour at Replicate, so they are saved in the order in which they ended.

When the outputs that wait would not all be saved in time at the present speed, creates have to wait.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.replicate_api.predictions import RETENTION
from worker.limits.priority_semaphore import PrioritySemaphore

MARGIN = 300.0
"""Seconds before the end of its hour by which an output should be saved."""

ENOUGH, ALL = 60.0, 180.0
"""Seconds under load after which the speed of saving is known, and over which it is averaged."""

STALE = 600.0
"""Seconds after which a measurement is too old to count."""

STANDSTILL = 300.0
"""Seconds under load without one saved output, after which the speed counts as zero."""


def would_miss(kept: Sequence[float], in_flight: int, speed: float, now: float, margin: float) -> float | None:
    """When the first output that would not be saved `margin` seconds before its end is lost; None: all would be.

    `kept` says until when outputs are kept, `in_flight` more may end at any moment, `speed` is outputs a second.
    What is lost already is left out: no wait would bring it back.
    """
    waiting = sorted(until for until in kept if until > now)
    if waiting and speed <= 0:
        return waiting[0]
    for place, until in enumerate(waiting, 1):
        if now + place / speed > until - margin:
            return until
    if in_flight and waiting and (len(waiting) + in_flight) / speed > RETENTION - margin:
        return now + RETENTION
    return None


@dataclass(slots=True, eq=False)
class UnsavedOutput:
    """One prediction that has ended and is not saved; `breaking`: its own transfers fail, again and again.

    `absent`: a file of it is not at its URL; between its looks it needs nothing that another could use.
    """

    kept_until: float
    breaking: bool = False
    absent: bool = False
    is_blocked: Callable[[], bool] = lambda: False
    """Whether its folder cannot be written: then it delays nobody else."""


class Backlog:
    """The predictions of this worker that wait to be saved, and how fast they are.

    Speed is measured only while more waits than can be saved at once: at other times it is the models' speed.
    """

    def __init__(self, slots: PrioritySemaphore) -> None:
        self._slots = slots
        self._unsaved: set[UnsavedOutput] = set()
        self._saved = 0
        self._looked_at: float | None = None
        self._saved_at = 0.0
        self._looks: deque[tuple[float, float, int]] = deque()  # when, seconds since the last one, saved in them
        self._idle = 0.0
        self._holding = False

    @contextmanager
    def unsaved(self, kept_until: float, is_blocked: Callable[[], bool] = lambda: False) -> Iterator[UnsavedOutput]:
        """A prediction waits in the block to be saved; it is saved when the block ends without an error."""
        entry = UnsavedOutput(kept_until, is_blocked=is_blocked)
        self._unsaved.add(entry)
        try:
            yield entry
            self._saved += 1
        finally:
            self._unsaved.discard(entry)

    def __len__(self) -> int:
        return len(self._unsaved)

    def oldest(self, now: float) -> float:
        """How many seconds ago the first of those that wait ended, by when Replicate deletes it; 0 without any."""
        first = min((entry.kept_until for entry in self._unsaved), default=now + RETENTION)
        return max(now + RETENTION - first, 0.0)

    def look(self, clock: float) -> None:
        """Measure what was saved since the last look; `clock` is in seconds and never set back."""
        saved, self._saved = self._saved, 0
        seconds, self._looked_at = clock - (self._looked_at or clock), clock
        if saved or not self._absent:
            self._saved_at = clock
        if self._under_load and seconds > 0:
            self._looks.append((clock, seconds, saved))
            self._idle = 0.0 if saved else self._idle + seconds
        while self._looks and (self._looks[0][0] < clock - STALE or self._seconds > ALL):
            self._looks.popleft()
        if not self._looks:
            self._idle = 0.0

    @property
    def _absent(self) -> int:
        return sum(entry.absent for entry in self._unsaved)

    @property
    def _present(self) -> list[UnsavedOutput]:
        """Those that could be saved at once."""
        return [entry for entry in self._unsaved if not entry.absent and not entry.is_blocked()]

    @property
    def _under_load(self) -> bool:
        present = len(self._present)
        return present > 1 and (present > self._slots.size or self._slots.waiting > 0)

    @property
    def _seconds(self) -> float:
        return sum(seconds for _, seconds, _ in self._looks)

    @property
    def speed(self) -> float | None:
        """Outputs saved a second, under load; None: too little is known. Without any it is the most that it may be."""
        if self._seconds < ENOUGH:
            return None
        if saved := sum(saved for _, _, saved in self._looks):
            return saved / self._seconds
        return self._slots.size / self._idle if self._idle < STANDSTILL else 0.0

    def why_hold(self, in_flight: int, now: float) -> str | None:
        """Why creates have to wait; None: all is saved in time, or too little is known. `now` is in Unix seconds.

        Once held, they wait until twice the margin is kept, so that this does not change back and forth.
        """
        speed, lost_at = self.speed, None
        if speed is not None:
            kept = [entry.kept_until for entry in self._present if not (speed and entry.breaking)]
            lost_at = would_miss(kept, in_flight, speed, now, MARGIN * (2 if self._holding else 1))
        self._holding = lost_at is not None
        if lost_at is None:
            return self._why_files_are_absent()
        return (
            f"{len(self._present):,} outputs wait to be saved: at {speed:.2g} a second the first would be lost at "
            f"{time.strftime('%H:%M %Z', time.localtime(lost_at))}; creates wait"
        )

    def _why_files_are_absent(self) -> str | None:
        """A few absent files are trouble of their own; very many, and no file that is there, are their host's."""
        minutes = ((self._looked_at or 0.0) - self._saved_at) / 60
        if self._absent <= self._slots.size or minutes * 60 < STANDSTILL:
            return None
        return (
            f"the files of {self._absent:,} outputs are not at their URLs, and for {minutes:.0f} minutes none could be "
            "saved; creates wait"
        )
