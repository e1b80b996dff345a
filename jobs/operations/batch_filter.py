"""Which batches a list shows, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal

from jobs.operations.report import done, shown_state
from jobs.wire import Status

ShownState = Literal["queued", "running", "waiting", "paused", "finished", "canceled", "forgotten"]
Sort = Literal["newest", "oldest", "name", "failed", "cost", "left"]

_KEYS: dict[Sort, Callable[[Status], Any]] = {
    "newest": lambda _: 0,
    "oldest": lambda status: datetime.fromisoformat(status.created_at),
    "name": lambda status: status.batch,
    "failed": lambda status: -status.failed,
    "cost": lambda status: -(status.cost or 0),
    "left": lambda status: done(status) - status.total,
}
"""What batches are sorted by, which come newest first."""


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """What a batch must be to be listed; `has_failed`: it has failed prompts or dead letters."""

    states: frozenset[str] = frozenset()
    since: datetime | None = None
    name: str = "*"
    has_failed: bool = False
    sort: Sort = "newest"

    def apply(self, statuses: Iterable[Status]) -> list[Status]:
        """The batches to list, of these that come newest first, in their order."""
        return sorted(filter(self._takes, statuses), key=_KEYS[self.sort])

    def _takes(self, status: Status) -> bool:
        return (
            (not self.states or shown_state(status) in self.states)
            and (self.since is None or datetime.fromisoformat(status.created_at) >= self.since)
            and fnmatchcase(status.batch, self.name)
            and (not self.has_failed or bool(status.failed or status.dead_letters))
        )
