"""One prediction that somebody waits for, and when it is to be looked at again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from jobs.errors import NotFound
from jobs.replicate_api.predictions import Prediction

PATIENCE = 10
"""Who is asked for by id is asked after each tenth of its age: what takes long may be noticed later."""

MOST_PATIENCE = 5.0
"""But not more than so many seconds later."""

FRESH = 5.0
"""Seconds: what was intended longer ago was not created just now, but found again."""


@dataclass(slots=True, eq=False)
class Waiter:
    """`since` is when it was intended, Unix seconds by our clock; all other times are the loop's."""

    prediction_id: str
    since: float
    known_at: float
    looked_at: float = 0.0
    asked_at: float = 0.0
    listed: bool = True
    """Whether the list shows it, as far as anybody knows: then nobody need ask for it alone."""

    missed: int = 0
    ended: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @classmethod
    def begin(cls, prediction_id: str, since: float) -> Waiter:
        """Wait for it from now on; the answer to its create was the first look."""
        now = asyncio.get_running_loop().time()
        waiter = cls(prediction_id, since, known_at=now, looked_at=now if time.time() < since + FRESH else 0.0)
        waiter.ended.add_done_callback(_retrieve)
        return waiter

    def due(self, least: float, most: float = MOST_PATIENCE) -> bool:
        """Tell whether the last look at it is so many seconds ago, by its age, that it is worth asking for."""
        patience = 0 if self.missed else min((time.time() - self.since) / PATIENCE, most)
        return asyncio.get_running_loop().time() >= self.looked_at + max(patience, least)

    def end(self, prediction: Prediction) -> None:
        """Wake whoever waits."""
        if not self.ended.done():
            self.ended.set_result(prediction)

    def lose(self, error: NotFound) -> None:
        """Tell whoever waits that Replicate does not know it."""
        if not self.ended.done():
            self.ended.set_exception(error)


def _retrieve(ended: asyncio.Future[Prediction]) -> None:
    """Nobody may wait any more when it ends: that is no error to be logged."""
    if not ended.cancelled():
        ended.exception()
