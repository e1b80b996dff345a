"""The job slots of a worker: which shards make room for others, which are deferred, and which batches are skipped.

The queue stays as it is: its virtual times are the batches' shares. What a worker defers, only it remembers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.config import Config
from jobs.errors import BatchError, ConfigError
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from worker.leases import Leases, lease_name
from worker.running_jobs import RunningJobs

FIRST = 2
"""Shards that stay, of all that wait for the same: they are next when it comes."""

LOOKED_AT = 1000
"""Shards at the queue's head among which others are looked for."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What tests shorten, in seconds."""

    step_aside: float = 15.0
    """After so long a shard whose prompts have nothing to do but wait may make room for another."""

    deferred: float = 30.0
    """So long a shard which made room is behind all others; also between two looks for a folder that was not seen."""


@dataclass(slots=True, eq=False)
class JobSlot:
    """A slot with a shard: what all its prompts wait for, since when, and whether it must make room for another."""

    job: str
    score: float
    waits: frozenset[str] = frozenset()
    since: float | None = None
    must_yield: bool = False

    def note(self, waits: frozenset[str]) -> None:
        """Say what its prompts wait for; nothing, if one of them is at work."""
        self.waits = waits
        if not waits:
            self.since = None
        elif self.since is None:
            self.since = asyncio.get_running_loop().time()


@dataclass(slots=True)
class JobSlots:
    """The job slots of one worker; `make_room` is called every second."""

    redis: Redis
    config: Config
    leases: Leases
    running: RunningJobs
    size: int
    timing: Timing = field(default_factory=Timing)
    _slots: list[JobSlot] = field(default_factory=list)
    _deferred: dict[str, float] = field(default_factory=dict)
    _unseen: dict[str, float] = field(default_factory=dict)
    _closed: BatchError | None = None

    @property
    def is_full(self) -> bool:
        """Whether all slots are taken, so that shards wait in the queue."""
        return len(self.running) >= self.size

    @contextmanager
    def hold(self, job: str, score: float) -> Iterator[JobSlot]:
        """Run the shard in the block; it yields its slot when it is told to."""
        slot = JobSlot(job, score)
        self._slots.append(slot)
        try:
            yield slot
        finally:
            self._slots.remove(slot)

    def defer(self, job: str) -> None:
        """Let a shard that made room wait behind all others, for a while."""
        self._deferred[job] = asyncio.get_running_loop().time() + self.timing.deferred

    def skip_batch(self, batch: str) -> None:
        """Start no shard of a batch whose folder is not seen, but one after a while, to look again."""
        self._unseen[batch] = asyncio.get_running_loop().time() + self.timing.deferred

    def resume_batch(self, batch: str) -> None:
        """Start its shards again: the batch's folder is seen."""
        self._unseen.pop(batch, None)

    def close(self, reason: BatchError) -> None:
        """Have the worker stop, for the first reason that is given."""
        self._closed = self._closed or reason

    def pick(self, jobs: Sequence[bytes]) -> list[bytes]:
        """Those jobs at the queue's head that may be started, in the order in which they should be."""
        now = asyncio.get_running_loop().time()
        self._deferred = {job: until for job, until in self._deferred.items() if until > now}
        wanted = [job for job in jobs if not self._is_skipped(job.decode(), now)] if self._unseen else list(jobs)
        return sorted(wanted, key=lambda job: job.decode() in self._deferred) if self._deferred else wanted

    async def make_room(self) -> None:
        """Choose who yields to shards that no worker has started."""
        now = asyncio.get_running_loop().time()
        idle = [slot for slot in self._slots if slot.since is not None and now >= slot.since + self.timing.step_aside]
        if idle and self.is_full and (later := self._later_ones(idle)):
            for slot in later[: await self._unstarted(len(later))]:
                slot.must_yield = True

    async def stop_reason(self, *, is_idle: bool, burst: bool, only: str | None = None) -> BatchError | None:
        """Why this worker must stop, now or since it is idle and can start nothing (of `only` one batch)."""
        if self._closed or not (self._unseen and is_idle):
            return self._closed
        if not burst and await asyncio.to_thread(self.config.output_dir.is_dir):
            return None  # other batches may come
        queued = await Queue(self.redis, self.config.api_host).first(None)
        if not all(_batch(job) in self._unseen for job in queued if only in (None, _batch(job))):
            return None
        return ConfigError(
            f"this worker sees none of the folders of the queued batches ({', '.join(sorted(self._unseen))}) in "
            f"{self.config.output_dir.absolute()}: all producers and workers of one Redis must see the same "
            "BATCH_OUTPUT_DIR"
        )

    def _is_skipped(self, job: str, now: float) -> bool:
        batch = _batch(job)
        if batch not in self._unseen:
            return False
        if now < self._unseen[batch]:
            return True
        self.skip_batch(batch)
        return False

    def _later_ones(self, idle: list[JobSlot]) -> list[JobSlot]:
        """Those that may yield, the last in the queue first: at most half of the slots are kept for who is next."""
        waiting, stay, later = Counter[str](), 0, list[JobSlot]()
        for slot in sorted(idle, key=lambda slot: slot.score):
            is_next = any(waiting[wait] < FIRST for wait in slot.waits)
            waiting.update(slot.waits)
            if is_next and stay < self.size // 2:
                stay += 1
            else:
                later.append(slot)
        return later[::-1]

    async def _unstarted(self, most: int) -> int:
        jobs = await Queue(self.redis, self.config.api_host).first(LOOKED_AT)
        others = [job for job in jobs if job not in self._deferred and _batch(job) not in self._unseen]
        others = [job for job in others if job not in self.running]
        return len((await self.leases.unheld([lease_name(job) for job in others]))[:most])


def _batch(job: str) -> str:
    return job.split(":", 1)[0]
