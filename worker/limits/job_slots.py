"""The job slots of a worker: which jobs run, which make room for others, are deferred, or are skipped.

The queue does not change: its virtual times share the workers between batches. Deferring and skipping are local.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jobs.config import Config
from jobs.errors import BatchError, ConfigError
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.pending import busy_shards
from worker.leases import Leases, lease_name

logger = logging.getLogger(__name__)

MOST_NEXT = 2
"""Of the shards that wait for the same thing, so many stay: they are next to get it."""

QUEUE_HEAD = 1000
"""So many shards at the head of the queue are considered."""


class RunningJobs:
    """The arq jobs of this process, including those that wait for their lease; each runs once at a time.

    arq starts a job a second time when its in-progress key expired while the process stalled. Two runs at once would
    end in a KeyError inside arq, which drops the job from the queue.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._runs: dict[str, asyncio.Task[Any]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, job: str) -> bool:
        return job in self._runs

    async def single_flight(self, job: str) -> None:
        """Wait until no other run of the job is left, even when cancelled; then this task is its run."""
        run = asyncio.current_task()
        while (other := self._runs.get(job)) and not other.done():
            try:
                await asyncio.wait([other], timeout=self._leases.seconds / 5)
                await self._leases.mark_in_progress(job)
            except asyncio.CancelledError:
                self._leases.absorb_cancel()
                other.cancel()  # arq knows only the later run, and cancels no other
        if run:
            self._runs[job] = run
            run.add_done_callback(lambda _: self._forget(job, run))

    def _forget(self, job: str, run: asyncio.Task[Any]) -> None:
        if self._runs.get(job) is run:
            del self._runs[job]


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays that tests shorten, in seconds."""

    yield_after: float = 15.0
    """A shard whose prompts have all waited for this long may make room for another."""

    deferred: float = 30.0
    """For this long a shard that made room comes after all others; also between two checks for a missing folder."""


@dataclass(slots=True, eq=False)
class JobSlot:
    """A slot with a shard: what all its prompts wait for, since when, and whether it must yield to another."""

    job: str
    score: float
    waits: frozenset[str] = frozenset()
    since: float | None = None
    must_yield: bool = False

    def note(self, waits: frozenset[str]) -> None:
        """Note what its prompts wait for; nothing if one of them does not wait."""
        self.waits = waits
        if not waits:
            self.since = None
        elif self.since is None:
            self.since = asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class PausedBatch:
    """A paused batch: its id, and its shards (as leases name them) that have something to do nevertheless."""

    batch_id: str
    busy: frozenset[str] = frozenset()


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
    _paused: dict[str, PausedBatch] = field(default_factory=dict)
    _stop: BatchError | None = None

    @property
    def is_full(self) -> bool:
        """Whether all slots are taken, so that shards wait in the queue."""
        return len(self.running) >= self.size

    @contextmanager
    def hold(self, job: str, score: float) -> Iterator[JobSlot]:
        """Hold a slot for the shard in the block, which must end soon after `must_yield` is set."""
        slot = JobSlot(job, score)
        self._slots.append(slot)
        try:
            yield slot
        finally:
            self._slots.remove(slot)

    def defer(self, job: str) -> None:
        """Start a shard that made room only after all others, for a while."""
        if _batch(job) not in self._paused:  # one that is skipped keeps its turn
            self._deferred[job] = asyncio.get_running_loop().time() + self.timing.deferred

    def skip_batch(self, batch: str) -> None:
        """Start no shards of a batch whose folder is missing, except one after a while, to check again."""
        self._unseen[batch] = asyncio.get_running_loop().time() + self.timing.deferred

    def resume_batch(self, batch: str) -> None:
        """Start the batch's shards again: its folder is there."""
        self._unseen.pop(batch, None)

    def skip_paused(self, batch: str, batch_id: str) -> None:
        """Start no shards of a paused batch until it goes on, except those with an open attempt."""
        if batch not in self._paused:
            facts = {"event": "batch_paused", "batch": batch}
            logger.warning("! %s is paused. `python -m jobs resume --batch %s` lifts it", batch, batch, extra=facts)
            self._paused[batch] = PausedBatch(batch_id)

    def is_paused(self, job: str) -> bool:
        """Whether the job waits in the queue until its batch is resumed."""
        batch = self._paused.get(_batch(job))
        return batch is not None and lease_name(job) not in batch.busy

    def request_stop(self, reason: BatchError) -> None:
        """Make the worker stop; the first reason counts."""
        self._stop = self._stop or reason

    def pick_jobs(self, jobs: Sequence[bytes]) -> list[bytes]:
        """The jobs that may start, in the order in which they should."""
        now = asyncio.get_running_loop().time()
        self._deferred = {job: until for job, until in self._deferred.items() if until > now}
        wanted = [job for job in jobs if not self._is_skipped(job.decode(), now)]
        return sorted(wanted, key=lambda job: job.decode() in self._deferred) if self._deferred else wanted

    async def make_room(self) -> None:
        """Choose the shards that yield to shards that no worker has started; see which batches are still paused."""
        await self._check_paused()
        now = asyncio.get_running_loop().time()
        idle = [slot for slot in self._slots if slot.since is not None and now >= slot.since + self.timing.yield_after]
        if idle and self.is_full and (later := self._yielding_slots(idle)):
            for slot in later[: await self._unstarted(len(later))]:
                slot.must_yield = True

    async def stop_reason(self, *, is_idle: bool, burst: bool, only: str | None = None) -> BatchError | None:
        """Why this worker must stop: on request, or because it sees no folder of the queued batches (or of `only`)."""
        if self._stop or not (self._unseen and is_idle):
            return self._stop
        if not burst and await asyncio.to_thread(self.config.output_dir.is_dir):
            return None  # other batches may be queued
        queued = await Queue(self.redis, self.config.api_host).first(None)
        if not all(_batch(job) in self._unseen for job in queued if only in (None, _batch(job))):
            return None
        return ConfigError(
            f"this worker sees none of the folders of the queued batches ({', '.join(sorted(self._unseen))}) in "
            f"{self.config.output_dir.absolute()}: all producers and workers of one Redis must see the same "
            "BATCH_OUTPUT_DIR"
        )

    async def _check_paused(self) -> None:
        for batch, paused in list(self._paused.items()):
            if await Batches(self.redis).standing(batch, paused.batch_id) == "paused":
                busy = frozenset(f"{batch}:{number}" for number in await busy_shards(self.redis, batch))
                self._paused[batch] = PausedBatch(paused.batch_id, busy)
            else:
                del self._paused[batch]
                logger.info("%s is not paused any more", batch, extra={"event": "batch_resumed", "batch": batch})

    def _is_skipped(self, job: str, now: float) -> bool:
        if self.is_paused(job):
            return True
        batch = _batch(job)
        if batch not in self._unseen:
            return False
        if now < self._unseen[batch]:
            return True
        self.skip_batch(batch)
        return False

    def _yielding_slots(self, idle: list[JobSlot]) -> list[JobSlot]:
        """The slots that may yield, the last in the queue first; at most half of all stay for shards that are next."""
        waiting, stay, later = Counter[str](), 0, list[JobSlot]()
        for slot in sorted(idle, key=lambda slot: slot.score):
            is_next = any(waiting[wait] < MOST_NEXT for wait in slot.waits)
            waiting.update(slot.waits)
            if is_next and stay < self.size // 2:
                stay += 1
            else:
                later.append(slot)
        return later[::-1]

    async def _unstarted(self, most: int) -> int:
        jobs = await Queue(self.redis, self.config.api_host).first(QUEUE_HEAD)
        others = [job for job in jobs if job not in self._deferred and _batch(job) not in self._unseen]
        others = [job for job in others if job not in self.running and not self.is_paused(job)]
        return len((await self.leases.find_unheld([lease_name(job) for job in others]))[:most])


def _batch(job: str) -> str:
    return job.split(":", 1)[0]
