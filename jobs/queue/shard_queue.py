"""The queue that arq's workers take shards from: bulk adding at virtual times, and removal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

from redis.asyncio.client import Pipeline

from jobs.errors import BatchNotFound
from jobs.queue.payload import Packed, deserialize, pack, serialize
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.wire import Batch, Shard

__all__ = ["Added", "Queue", "deserialize", "serialize"]

KEEP = 30 * 86_400_000
"""Milliseconds that a payload waits to be run."""


class Added(NamedTuple):
    """How much was added to the queue that was not in it."""

    shards: int = 0
    prompts: int = 0


class Queue:
    """The queue of one API host."""

    chunk_shards, chunk_bytes = 1000, 4_000_000
    """The most shards of one MULTI, and the bytes of payloads after which none is added to it."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis = redis
        self._key = keys.queue(api_host)
        self._script = load_script(redis, __name__)

    async def add(
        self,
        batch: Batch,
        shards: Iterable[Shard | Packed],
        first: Callable[[Pipeline], Awaitable[object]] | None = None,
    ) -> Added:
        """Add what is not in the queue, in bounded MULTIs, each starting with what `first` puts on its pipeline.

        The batch in Redis grows to `batch.total` and, having unsettled prompts, is no longer finished. `shards` is
        iterated in a thread. BatchNotFound when the batch was deleted meanwhile.
        """
        added = Added()
        waiting = iter(shards)
        while chunk := await asyncio.to_thread(self._chunk, waiting):
            async with self._redis.pipeline(transaction=True) as pipe:
                if first:
                    await first(pipe)
                await self._queue(batch, chunk, pipe)
                *_, (count, prompts) = await pipe.execute()
            if count < 0:
                raise BatchNotFound(f"batch {batch.name!r} was deleted while its prompts were being enqueued")
            added = Added(added.shards + count, added.prompts + prompts)
        return added

    async def size(self) -> int:
        """How many shards are waiting or running, of all batches."""
        return int(await self._redis.zcard(self._key))

    async def jobs(self, batch_name: str) -> list[str]:
        """The jobs of a batch that are waiting or running."""
        found = self._redis.zscan_iter(self._key, match=f"{batch_name}:*", count=1000)
        return list({job.decode(): None async for job, _ in found})  # a scan may yield one twice

    async def busy_shards(self, batch_name: str, shards: Iterable[int]) -> set[int]:
        """Those shards of a batch that have a job in the queue, or whose lease a worker still holds."""
        queued = {int(job.split(":")[1]) for job in await self.jobs(batch_name)}
        wanted = sorted(set(shards))
        owners = await self._redis.mget([keys.lease(f"{batch_name}:{shard}") for shard in wanted]) if wanted else []
        return {shard for shard, owner in zip(wanted, owners, strict=True) if owner or shard in queued}

    async def first(self, count: int | None) -> list[str]:
        """The first `count` jobs of the queue; None: all."""
        return [job.decode() for job in await self._redis.zrange(self._key, 0, -1 if count is None else count - 1)]

    async def payload(self, job_id: str) -> bytes | None:
        """A job's payload; None when it has expired, or the job is done."""
        payload: bytes | None = await self._redis.get(keys.ARQ_JOB + job_id)
        return payload

    async def remove(self, batch_name: str) -> None:
        """Take all shards of a batch out of the queue."""
        jobs = await self.jobs(batch_name)
        for start in range(0, len(jobs), self.chunk_shards):
            some = jobs[start : start + self.chunk_shards]
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._key, *some)
                pipe.delete(*(prefix + job for job in some for prefix in (keys.ARQ_JOB, keys.ARQ_RETRY)))
                await pipe.execute()

    async def _queue(self, batch: Batch, chunk: list[Packed], pipe: Pipeline) -> None:
        args: list[str | float | bytes] = [batch.id, batch.total, batch.priority, keys.ARQ_JOB, KEEP]
        for packed in chunk:
            args += packed.job_id, packed.prompts, packed.payload
        await self._script(keys=[self._key, *keys.kept_with_batch(batch.name)], args=args, client=pipe)

    def _chunk(self, shards: Iterator[Shard | Packed]) -> list[Packed]:
        chunk: list[Packed] = []
        size = 0
        for shard in shards:
            chunk.append(shard if isinstance(shard, Packed) else pack(shard))
            size += len(chunk[-1].payload)
            if size >= self.chunk_bytes or len(chunk) == self.chunk_shards:
                break
        return chunk
