"""The limits of single models, shared by all workers through Redis: creates a minute, and predictions in flight.

Of the prompts of a limited model that wait in a worker, the first in order tries; the others hold nothing meanwhile.
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
class _Lane:
    """The prompts of this worker that wait for one model: `first` tries, not before `open_at` (loop time)."""

    limit: ModelLimit
    slots: PrioritySemaphore = field(default_factory=lambda: PrioritySemaphore(1))
    first: str = ""
    open_at: float = 0.0


class ModelLimiter:
    """Whose turn it is for each model with limits of its own; costs nothing for other models."""

    def __init__(self, redis: Redis, config: Config) -> None:
        self._script = load_script(redis, __name__)
        self._config = config
        self._life = int((config.deadline + SLACK) * 1000)
        self._lanes: dict[str, _Lane] = {}

    async def acquire(self, model: str, prompt: str, order: float) -> None:
        """Return when the prompt is the first and may try: it has to `start`, or to `leave`."""
        if not (lane := self._lane(model)):
            return
        await lane.slots.acquire(order)
        lane.first = prompt
        try:
            await asyncio.sleep(lane.open_at - asyncio.get_running_loop().time())
        except asyncio.CancelledError:
            self.leave(model, prompt)
            raise

    async def start(self, model: str, prompt: str) -> None:
        """Count a create that is about to be made, and its prediction as in flight; ModelBusy when it has to wait.

        Then it is the first until it leaves.
        """
        if not (lane := self._lane(model)):
            return
        limits = ["" if value is None else value for value in (lane.limit.at_once, lane.limit.per_minute)]
        wait = await self._script(self._keys(lane, prompt), ["begin", prompt, self._life, *limits, lane.limit.model])
        lane.open_at = asyncio.get_running_loop().time() + wait / 1e6
        if wait:
            raise ModelBusy(f"the limit of {lane.limit.model} is reached")
        self.leave(model, prompt)

    def leave(self, model: str, prompt: str) -> None:
        """Let the next one try, if the prompt was the first."""
        lane = self._lane(model)
        if lane and lane.first == prompt:
            lane.first = ""
            asyncio.get_running_loop().call_soon(lane.slots.release)  # so that it may come back as the first

    async def release(self, model: str, prompt: str) -> None:
        """The prompt has no prediction in flight any more."""
        lane = self._lane(model)
        if lane and lane.limit.at_once:
            await self._script(self._keys(lane, prompt), ["end", prompt])

    def _lane(self, model: str) -> _Lane | None:
        limit = self._config.model_limits.of(model)
        return self._lanes.setdefault(limit.model, _Lane(limit)) if limit else None

    def _keys(self, lane: _Lane, prompt: str) -> list[str]:
        api_host, model = self._config.api_host, lane.limit.model
        of_model = [keys.model_in_flight(api_host, model), keys.model_rate(api_host, model)]
        return [*of_model, keys.limited_models(api_host), keys.batch(batch_in(prompt))]
