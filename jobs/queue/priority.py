"""Changes the priority of a batch whose shards are in the queue."""

from __future__ import annotations

from jobs.errors import BatchNotFound
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.wire import Batch


async def change_priority(redis: Redis, batch: Batch, priority: float) -> int:
    """Give the batch another share of the workers; shards that run stay. Returns how many moved; BatchNotFound."""
    names = [keys.queue(batch.api_host), keys.batch(batch.name)]
    arguments: list[str | float] = [batch.id, f"{batch.name}:", priority, keys.ARQ_IN_PROGRESS]
    moved = int(await load_script(redis, __name__)(keys=names, args=arguments))
    if moved < 0:
        raise BatchNotFound(f"batch {batch.name!r} was deleted meanwhile")
    return moved
