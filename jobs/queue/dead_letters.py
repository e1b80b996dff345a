"""Dead letters: shards whose runs died too often, or that cannot be read. They do not run until `retry`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from jobs.queue.payload import JobId
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.wire import SHARD_SIZE

MOST_DEATHS = 3
"""Runs of a shard that may die in a row without settling a prompt."""

KEEP = 30 * 86_400
"""Seconds that records of runs are kept: as long as a payload waits."""

REASON = f"{MOST_DEATHS} of its runs died, one after the other, without settling a prompt"
SHOWN = 3


class DeadLetters:
    """The runs of all shards, and which of them are dead letters."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def begin(self, job: JobId, run: str) -> str:
        """Record the start of a run; returns why the shard is a dead letter, "" when it is none.

        A recorded run that never ended has died. `run` names a process, which dies only once.
        """
        first = job.number * SHARD_SIZE
        return await self._ask("begin", job, run, first, first + SHARD_SIZE - 1, MOST_DEATHS, REASON, KEEP)

    async def end(self, job: JobId, run: str, *, over: bool) -> None:
        """Record that a run ended in order; `over` when the job needs no other."""
        await self._ask("end", job, run, "over" if over else "open")

    async def record_crash(self, job: JobId, run: str) -> None:
        """Count a run that failed unexpectedly as if its process had died."""
        await self._ask("record_crash", job, run)

    async def move_to_dead_letters(self, job: JobId, reason: str) -> None:
        """Make a shard a dead letter."""
        await self._ask("move_to_dead_letters", job, reason, KEEP)

    async def of(self, batch: str) -> dict[str, str]:
        """The batch's dead letters by job, each with the reason, in order."""
        notes = await self._redis.hgetall(keys.runs(batch))
        dead = {job.decode(): reason for job, note in notes.items() if (reason := json.loads(note).get("reason"))}
        return dict(sorted(dead.items(), key=lambda item: JobId.parse(item[0])))

    async def requeue(self, batch: str, jobs: Iterable[str]) -> None:
        """Make shards dead letters no longer, and forget the counts of their runs."""
        if jobs := list(jobs):
            await self._redis.hdel(keys.runs(batch), *jobs)

    async def _ask(self, op: str, job: JobId, *args: str | int) -> str:
        script = load_script(self._redis, __name__)
        names = [keys.runs(job.batch), keys.batch(job.batch), keys.settled(job.batch), keys.events(job.batch)]
        reason: bytes = await script(keys=names, args=[op, str(job), *args])
        return reason.decode()


def describe_dead_letters(batch: str, dead: Mapping[str, str], total: int) -> str:
    """Which prompts are in dead letters, why, and what brings them back."""
    parts = [f"{_prompts(job, total)} are a dead letter: {reason}" for job, reason in list(dead.items())[:SHOWN]]
    more = f"; and {len(dead) - SHOWN} more shards" if len(dead) > SHOWN else ""
    return f"{'; '.join(parts)}{more}. They have not failed: `python -m jobs retry {batch}` brings them back"


def _prompts(job: str, total: int) -> str:
    first = JobId.parse(job).number * SHARD_SIZE
    return f"prompts {first + 1} to {min(first + SHARD_SIZE, total)}"
