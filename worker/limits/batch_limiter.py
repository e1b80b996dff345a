"""The places of a batch that limits its predictions in flight, shared by all workers through Redis.

Of a batch's prompts that wait in a worker, the first in order asks for one; the others hold nothing meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from weakref import WeakValueDictionary

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.wire import Shard
from worker.limits.circuit_breaker import SLACK, MustWait
from worker.limits.priority_semaphore import PrioritySemaphore

LOOK = 0.25
"""Seconds until the first asks again: a prediction may end at any moment, elsewhere."""


class BatchBusy(MustWait):
    """The batch's limit is reached."""


class _Lane:
    """The prompts of this worker that wait for a place in one batch."""

    def __init__(self) -> None:
        self.slots = PrioritySemaphore(1)
        self.freed = asyncio.Event()


class BatchConcurrencyLimit:
    """Who may have a prediction in flight, of batches with a limit; nobody calls it for other batches.

    `deadline` is the longest that a prediction runs, in seconds.
    """

    def __init__(self, redis: Redis, deadline: float) -> None:
        self._script = load_script(redis, __name__)
        self._life = int((deadline + SLACK) * 1000)
        self._lanes: WeakValueDictionary[str, _Lane] = WeakValueDictionary()

    async def acquire(self, shard: Shard, index: int, order: float) -> None:
        """Return when the prompt has a place: it is to be given back."""
        lane = self._lanes.setdefault(shard.batch_id, _Lane())
        async with lane.slots.turn(order):
            try:
                while await self._none_free(lane, shard, index):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await lane.freed.wait()
            except asyncio.CancelledError:
                await self.release(shard, index)
                raise

    async def try_acquire(self, shard: Shard, index: int) -> bool:
        """Take a place if one is free; who has one keeps it, for a prediction's time from now on."""
        return await self._call("take", shard, index)

    async def count(self, shard: Shard, index: int) -> None:
        """Take a place even if none is free, for a prediction that runs already."""
        await self._call("count", shard, index)

    async def release(self, shard: Shard, index: int) -> None:
        """The prompt has no prediction in flight any more; those of results that are counted need not be given."""
        await self._call("give", shard, index)
        if lane := self._lanes.get(shard.batch_id):
            lane.freed.set()

    async def _none_free(self, lane: _Lane, shard: Shard, index: int) -> bool:
        lane.freed.clear()
        return not await self.try_acquire(shard, index)

    async def _call(self, what: str, shard: Shard, index: int) -> bool:
        its_keys = [keys.places(shard.batch), keys.batch(shard.batch), keys.settled(shard.batch)]
        return bool(await self._script(its_keys, [what, shard.batch_id, index, self._life]))
