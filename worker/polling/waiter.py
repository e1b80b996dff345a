"""A waiter: one prediction that a prompt waits for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from jobs.errors import NotFound
from jobs.replicate_api.predictions import Prediction
from worker.polling.poll_policy import MOST_PATIENCE, is_due, is_just_created


@dataclass(slots=True, eq=False)
class Waiter:
    """`since` is the time of its intent, Unix seconds by our clock; other times but `created` are the loop's.

    `is_private`: it may hold a secret, so that it is never sent through Redis.
    """

    prediction_id: str
    since: float
    known_at: float
    is_private: bool = False
    seen_at: float = 0.0
    polled_at: float = 0.0
    is_listed: bool = True
    """Whether the list shows it, as far as we know: then it is not polled by id."""

    created: float | None = None
    """When it was created, Unix seconds by the API's clock, once the list has shown it."""

    missed: int = 0
    ended: asyncio.Future[Prediction] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @classmethod
    def begin(cls, prediction_id: str, since: float, *, is_private: bool = False) -> Waiter:
        """Wait for a prediction from now on."""
        now = asyncio.get_running_loop().time()
        seen_at = now if is_just_created(time.time() - since) else 0.0
        waiter = cls(prediction_id, since, known_at=now, is_private=is_private, seen_at=seen_at)
        waiter.ended.add_done_callback(_retrieve)
        return waiter

    @property
    def age(self) -> float:
        """Seconds since its intent."""
        return time.time() - self.since

    def is_due(self, least: float, most: float = MOST_PATIENCE) -> bool:
        """Whether it is worth a poll by its id."""
        since_seen = asyncio.get_running_loop().time() - self.seen_at
        return is_due(since_seen, self.age, least, missed=self.missed, most=most)

    def poll_soon(self) -> None:
        """Have it polled by its id: the list does not show it."""
        self.is_listed, self.seen_at = False, 0.0

    def resolve(self, prediction: Prediction) -> None:
        """Return the prediction to its waiter."""
        if not self.ended.done():
            self.ended.set_result(prediction)

    def fail(self, error: NotFound) -> None:
        """Raise in its waiter that Replicate does not know it."""
        if not self.ended.done():
            self.ended.set_exception(error)


def _retrieve(ended: asyncio.Future[Prediction]) -> None:
    """Mark an exception as retrieved, so that asyncio does not log it when nobody waits any more."""
    if not ended.cancelled():
        ended.exception()
