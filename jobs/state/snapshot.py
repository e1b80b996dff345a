"""What Redis knows of one batch at one moment, read in one transaction, so that its parts agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.queue.dead_letters import DeadLetters
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Bits, batch_of
from jobs.state.ledger import Entry, entry_of
from jobs.wire import SHARD_SIZE, Batch

CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A batch, its bitmaps, its ledger by index and its jobs in the queue, True for those that have their payload.

    `unreadable` are fields of the ledger that are no entries; `reservations` is None for a batch that never had any.
    """

    batch: Batch
    settled: Bits
    unsuccessful: Bits
    ledger: Mapping[int, Entry]
    unreadable: tuple[str, ...]
    reservations: int | None
    jobs: Mapping[str, bool]
    dead: Mapping[str, str]
    """Dead letters by job, with the reason."""

    def job_of(self, index: int, generation: int) -> str:
        """The job that has a prompt."""
        return f"{self.batch.name}:{index // SHARD_SIZE}:{generation}"


async def take_snapshot(redis: Redis, name: str) -> Snapshot | None:
    """Read all of a batch; None when Redis knows none of that name. KeyError, ValueError when it is not readable."""
    api_host = await redis.hget(keys.batch(name), "realm")
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.batch(name))
        pipe.get(keys.settled(name))
        pipe.get(keys.unsuccessful(name))
        pipe.hgetall(keys.ledger(name))
        pipe.zrange(keys.queue((api_host or b"").decode()), 0, -1)
        fields, settled, unsuccessful, ledger, queue = await pipe.execute()
    if not fields:
        return None
    prefix = f"{name}:".encode()
    entries, unreadable = _entries(ledger)
    return Snapshot(
        batch=batch_of(fields),
        settled=Bits(settled or b""),
        unsuccessful=Bits(unsuccessful or b""),
        ledger=entries,
        unreadable=unreadable,
        reservations=int(fields[b"reservations"]) if b"reservations" in fields else None,
        jobs=await _payloads(redis, [job.decode() for job in queue if job.startswith(prefix)]),
        dead=await DeadLetters(redis).of(name),
    )


def _entries(ledger: Mapping[bytes, bytes]) -> tuple[dict[int, Entry], tuple[str, ...]]:
    entries, unreadable = dict[int, Entry](), list[str]()
    for index, text in ledger.items():
        try:
            entries[int(index)] = entry_of(text)
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(index.decode(errors="replace"))
    return entries, tuple(unreadable)


async def _payloads(redis: Redis, jobs: list[str]) -> dict[str, bool]:
    there: list[int] = []
    for start in range(0, len(jobs), CHUNK):
        async with redis.pipeline(transaction=False) as pipe:
            for job in jobs[start : start + CHUNK]:
                pipe.exists(keys.ARQ_JOB + job)
            there += await pipe.execute()
    return {job: bool(exists) for job, exists in zip(jobs, there, strict=True)}
