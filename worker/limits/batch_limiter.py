"""The concurrency limit of a batch, shared by all workers through Redis.

Of a batch's prompts that wait in a worker, only the first in order asks Redis; the others hold nothing meanwhile.
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

RETRY_SECONDS = 0.25
"""Until the first asks again: a prediction of another worker may end at any moment."""


class BatchBusy(MustWait):
    """The batch's limit is reached."""


class _Queue:
    """The prompts of one batch that wait in this worker."""

    def __init__(self) -> None:
        self.slots = PrioritySemaphore(1)
        self.freed = asyncio.Event()


class BatchConcurrencyLimit:
    """The limits of all batches that have one; `deadline` is the longest that a prediction runs, in seconds.

    The first that waits asks again every `retry` seconds.
    """

    def __init__(self, redis: Redis, deadline: float, retry: float = RETRY_SECONDS) -> None:
        self._retry = retry
        self._script = load_script(redis, __name__)
        self._life = int((deadline + SLACK) * 1000)
        self._queues: WeakValueDictionary[str, _Queue] = WeakValueDictionary()

    async def acquire(self, shard: Shard, index: int, order: float) -> None:
        """Wait until the prompt may have a prediction in flight; `release` must follow."""
        queue = self._queues.setdefault(shard.batch_id, _Queue())
        async with queue.slots.turn(order):
            try:
                while await self._is_full(queue, shard, index):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._retry):
                            await queue.freed.wait()
            except asyncio.CancelledError:
                await self.release(shard, index)
                raise

    async def try_acquire(self, shard: Shard, index: int) -> bool:
        """Count the prompt as in flight if the limit allows it, or once more if it is counted already."""
        return await self._call("acquire", shard, index)

    async def count(self, shard: Shard, index: int) -> None:
        """Count the prompt even beyond the limit, for a prediction that is running already."""
        await self._call("count", shard, index)

    async def release(self, shard: Shard, index: int) -> None:
        """Count the prompt no more; settling a result does so, too."""
        await self._call("release", shard, index)
        if queue := self._queues.get(shard.batch_id):
            queue.freed.set()

    async def _is_full(self, queue: _Queue, shard: Shard, index: int) -> bool:
        queue.freed.clear()
        return not await self.try_acquire(shard, index)

    async def _call(self, op: str, shard: Shard, index: int) -> bool:
        its_keys = [keys.places(shard.batch), keys.batch(shard.batch), keys.settled(shard.batch)]
        return bool(await self._script(its_keys, [op, shard.batch_id, index, self._life]))
