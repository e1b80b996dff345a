"""What Redis knows of prompts that have no result yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Bits
from jobs.state.ledger import Entry, entry_of
from jobs.wire import SHARD_SIZE


@dataclass(frozen=True, slots=True)
class PendingPrompt:
    """A prompt without a result: how often it was retried, and its entry in the ledger."""

    retry_count: int
    entry: Entry


async def read_pending(redis: Redis, batch: str, indexes: Sequence[int]) -> dict[int, PendingPrompt]:
    """The batch's prompts of these indexes that have no result, in one round trip; the ledger refuses stale entries."""
    if not indexes:
        return {}
    first = min(indexes) >> 3
    async with redis.pipeline(transaction=True) as pipe:
        pipe.getrange(keys.settled(batch), first, max(indexes) >> 3)
        pipe.hmget(keys.retried(batch), list(map(str, indexes)))
        pipe.hmget(keys.ledger(batch), list(map(str, indexes)))
        bits, retry_counts, entries = await pipe.execute()
    settled = Bits(bits)
    rows = zip(indexes, retry_counts, entries, strict=True)
    return {
        index: PendingPrompt(int(retry_count or 0), entry_of(entry))
        for index, retry_count, entry in rows
        if index - (first << 3) not in settled
    }


async def open_attempts(redis: Redis, batch: str) -> dict[int, str]:
    """The indexes of a batch's prompts whose attempt is open, each with its nonce."""
    entries = await redis.hgetall(keys.ledger(batch))
    return {int(index): entry.nonce for index, text in entries.items() if (entry := entry_of(text)).nonce}


async def busy_shards(redis: Redis, batch: str) -> set[int]:
    """The numbers of a batch's shards that have an open attempt, or a prompt that is to be canceled by hand."""
    marked = Bits(await redis.get(keys.to_cancel(batch)) or b"")
    indexes = [index for index in range(len(marked.data) * 8) if index in marked] if any(marked.data) else []
    return {index // SHARD_SIZE for index in (*indexes, *await open_attempts(redis, batch))}
