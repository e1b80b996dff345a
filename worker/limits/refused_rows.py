"""Rows that the API refuses: the fault is theirs and costs nothing, so other batches are not held back.

After many refusals in a row, a batch's rows for that model are sent one at a time: each ends with its own reason, and
the rate limit is left to others. When the model itself is refused and never worked, all the batch's rows for it end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from jobs.config import Config
from jobs.errors import BatchError, InvalidRequest, NotFound, ReplicateError
from jobs.wire import Shard
from worker.limits.circuit_breaker import CircuitBreaker
from worker.limits.priority_semaphore import PrioritySemaphore

MANY_UNKNOWN = 4
"""After this many refusals of a model itself in a row, it counts as one that does not exist."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Rows:
    """The rows of one batch and model; `unknown` counts refusals of the model itself, `first` is being sent."""

    in_a_row: int = 0
    unknown: int = 0
    created: bool = False
    missing: ReplicateError | None = None
    queue: PrioritySemaphore = field(default_factory=lambda: PrioritySemaphore(1))
    first: str = ""


class RefusedRows:
    """The refusals of each batch and model in this worker; a `retry` starts at none."""

    def __init__(self, config: Config, breaker: CircuitBreaker) -> None:
        self._many = config.breaker_refusals
        self._breaker = breaker
        self._rows: dict[tuple[str, int, str], _Rows] = {}

    def missing(self, shard: Shard, model: str) -> ReplicateError | None:
        """The refusal of a model that does not exist; None for other models."""
        rows = self._rows.get(_key(shard, model))
        return rows.missing if rows else None

    def is_slow(self, shard: Shard, model: str) -> bool:
        """Whether so many were refused in a row that rows are sent one at a time."""
        rows = self._rows.get(_key(shard, model))
        return rows is not None and rows.in_a_row >= self._many

    async def acquire(self, shard: Shard, model: str, prompt: str, order: float) -> None:
        """After many refusals, wait until no other row is being sent; `release` must follow."""
        if not self.is_slow(shard, model):
            return
        rows = self._rows[_key(shard, model)]
        await rows.queue.acquire(order)
        rows.first = prompt
        if not self.is_slow(shard, model):
            self.release(shard, model, prompt)

    def release(self, shard: Shard, model: str, prompt: str) -> None:
        """Let the next row be sent: this one was answered, or is not sent."""
        rows = self._rows.get(_key(shard, model))
        if rows and rows.first == prompt:
            rows.first = ""
            rows.queue.release()

    def note_created(self, shard: Shard, model: str) -> None:
        """Note that a create was accepted, so the model exists."""
        rows = self._rows.setdefault(_key(shard, model), _Rows())
        rows.in_a_row, rows.unknown, rows.created, rows.missing = 0, 0, True, None

    async def has_worked(self, shard: Shard, model: str) -> bool:
        """Whether a create for the model was accepted, in this batch or lately for this account."""
        rows = self._rows.get(_key(shard, model))
        return (rows is not None and rows.created) or await self._breaker.has_worked(model)

    async def note_refused(self, shard: Shard, model: str, error: BatchError) -> None:
        """Note that a create was refused for good."""
        rows = self._rows.setdefault(_key(shard, model), _Rows())
        if rows.missing or not isinstance(error, NotFound | InvalidRequest):
            return
        rows.in_a_row += 1
        rows.unknown = rows.unknown + 1 if _is_of_model(error) else 0
        if rows.in_a_row == self._many:
            logger.warning(
                "! %s: %d creates of %s in a row were refused; its rows are sent one at a time: %s",
                shard.batch, rows.in_a_row, model, error,
            )  # fmt: skip
        if rows.unknown >= MANY_UNKNOWN and not await self.has_worked(shard, model):
            rows.missing = error
            logger.error("! %s: all its prompts of %s end: %s", shard.batch, model, error)


def _key(shard: Shard, model: str) -> tuple[str, int, str]:
    return shard.batch_id, shard.generation, model


def _is_of_model(error: ReplicateError) -> bool:
    """Whether the model itself was refused, not the input."""
    if isinstance(error, InvalidRequest):
        return "version or not permitted" in str(error).lower()
    return isinstance(error, NotFound)
