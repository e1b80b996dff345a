"""The limits of single models, shared by all workers through Redis: creates a minute, and predictions in flight.

Of a model's prompts that wait in a worker, only the first in order asks Redis; the others hold nothing meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from jobs.config import Config
from jobs.model_limits import ModelLimit
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from worker.limits.circuit_breaker import SLACK, MustWait, batch_in
from worker.limits.priority_semaphore import PrioritySemaphore


class ModelBusy(MustWait):
    """The model's own limit is reached."""


@dataclass(slots=True)
class _Queue:
    """The prompts of one model that wait in this worker: `first` may try from `open_at` (loop time)."""

    limit: ModelLimit
    slots: PrioritySemaphore = field(default_factory=lambda: PrioritySemaphore(1))
    first: str = ""
    open_at: float = 0.0


class ModelLimiter:
    """The limits of all models that have one; other models cost nothing."""

    def __init__(self, redis: Redis, config: Config) -> None:
        self._script = load_script(redis, __name__)
        self._config = config
        self._life = int((config.deadline + SLACK) * 1000)
        self._queues: dict[str, _Queue] = {}

    async def acquire(self, model: str, prompt: str, order: float) -> None:
        """Wait until the prompt is first in its queue; `start` or `leave` must follow."""
        if not (queue := self._queue_of(model)):
            return
        await queue.slots.acquire(order)
        queue.first = prompt
        try:
            await asyncio.sleep(queue.open_at - asyncio.get_running_loop().time())
        except asyncio.CancelledError:
            self.leave(model, prompt)
            raise

    async def start(self, model: str, prompt: str) -> None:
        """Count a create that starts now, and its prediction as in flight; ModelBusy when the limit is reached.

        After ModelBusy the prompt stays first until it leaves.
        """
        if not (queue := self._queue_of(model)):
            return
        limits = ["" if value is None else value for value in (queue.limit.at_once, queue.limit.per_minute)]
        wait = await self._script(self._keys(queue, prompt), ["start", prompt, self._life, *limits, queue.limit.model])
        queue.open_at = asyncio.get_running_loop().time() + wait / 1e6
        if wait:
            raise ModelBusy(f"the limit of {queue.limit.model} is reached")
        self.leave(model, prompt)

    def leave(self, model: str, prompt: str) -> None:
        """Leave the first place in the queue, if the prompt has it."""
        queue = self._queue_of(model)
        if queue and queue.first == prompt:
            queue.first = ""
            asyncio.get_running_loop().call_soon(
                queue.slots.release
            )  # later, so that the prompt may queue again and be first

    async def release(self, model: str, prompt: str) -> None:
        """Count the prompt's prediction as in flight no more."""
        queue = self._queue_of(model)
        if queue and queue.limit.at_once:
            await self._script(self._keys(queue, prompt), ["release", prompt])

    def _queue_of(self, model: str) -> _Queue | None:
        limit = self._config.model_limits.of(model)
        return self._queues.setdefault(limit.model, _Queue(limit)) if limit else None

    def _keys(self, queue: _Queue, prompt: str) -> list[str]:
        api_host, model = self._config.api_host, queue.limit.model
        of_model = [keys.model_in_flight(api_host, model), keys.model_rate(api_host, model)]
        return [*of_model, keys.limited_models(api_host), keys.batch(batch_in(prompt))]
