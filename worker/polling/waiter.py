"""One prediction that somebody waits for, and what is known of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from jobs.errors import NotFound
from jobs.replicate_api.predictions import Prediction
from worker.polling.poll_policy import MOST_PATIENCE, is_due, is_just_created


@dataclass(slots=True, eq=False)
class Waiter:
    """`since` is when it was intended, Unix seconds by our clock; all other times are the loop's."""

    prediction_id: str
    since: float
    known_at: float
    looked_at: float = 0.0
    asked_at: float = 0.0
    is_listed: bool = True
    """Whether the list shows it, as far as anybody knows: then nobody need ask for it alone."""

    missed: int = 0
    ended: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @classmethod
    def begin(cls, prediction_id: str, since: float) -> Waiter:
        """Wait for a prediction from now on."""
        now = asyncio.get_running_loop().time()
        looked_at = now if is_just_created(time.time() - since) else 0.0
        waiter = cls(prediction_id, since, known_at=now, looked_at=looked_at)
        waiter.ended.add_done_callback(_retrieve)
        return waiter

    @property
    def age(self) -> float:
        """Seconds since its intent."""
        return time.time() - self.since

    def is_due(self, least: float, most: float = MOST_PATIENCE) -> bool:
        """Whether it is worth asking for by its id."""
        since_look = asyncio.get_running_loop().time() - self.looked_at
        return is_due(since_look, self.age, least, missed=self.missed, most=most)

    def ask_soon(self) -> None:
        """Have it asked for by its id: the list does not tell."""
        self.is_listed, self.looked_at = False, 0.0

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
