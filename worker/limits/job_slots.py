"""Which shards this worker has in hand, which of them make room for others, and which it leaves alone for now.

The queue is left as it is: its virtual times are the batches' shares. What a worker puts back, it remembers by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis.asyncio import Redis

from jobs.config import Config
from jobs.errors import ConfigError
from jobs.queue.shard_queue import Queue
from worker.leases import Leases, lease_name

STEP_ASIDE = 15.0
"""Seconds after which a shard whose prompts have nothing to do but wait may make room for another."""

AWAY = 30.0
"""Seconds that a shard which made room is behind all others, and between two looks for a folder that is not seen."""

FIRST = 2
"""Shards that stay, of all that wait for the same: they are next when it comes."""

LOOKED_AT = 1000
"""Shards at the queue's head among which others are looked for."""


@dataclass(slots=True, eq=False)
class Hand:
    """A shard in hand: what all its prompts wait for, since when, and whether it makes room."""

    job: str
    score: float
    waits: frozenset[str] = frozenset()
    since: float | None = None
    leaves: bool = False

    def note(self, waits: frozenset[str]) -> None:
        """Say what its prompts wait for; nothing, if one of them is at work."""
        self.waits = waits
        if not waits:
            self.since = None
        elif self.since is None:
            self.since = asyncio.get_running_loop().time()


@dataclass(slots=True)
class JobSlots:
    """The job slots of one worker; `look` is called every second."""

    redis: Redis
    config: Config
    leases: Leases
    size: int
    _hands: list[Hand] = field(default_factory=list)
    _away: dict[str, float] = field(default_factory=dict)
    _alone: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def in_hand(self, job: str, score: float) -> Iterator[Hand]:
        """The shard runs in the block."""
        hand = Hand(job, score)
        self._hands.append(hand)
        try:
            yield hand
        finally:
            self._hands.remove(hand)

    def put_back(self, job: str) -> None:
        """Let a shard that made room wait behind all others, for a while."""
        self._away[job] = asyncio.get_running_loop().time() + AWAY

    def leave_alone(self, batch: str) -> None:
        """Start no shard of a batch whose folder is not seen, but one after a while, to look again."""
        self._alone[batch] = asyncio.get_running_loop().time() + AWAY

    def take_up(self, batch: str) -> None:
        """The batch's folder is seen."""
        self._alone.pop(batch, None)

    def pick(self, jobs: Sequence[bytes]) -> list[bytes]:
        """Those jobs at the queue's head that may be started, in the order in which they should be."""
        now = asyncio.get_running_loop().time()
        self._away = {job: until for job, until in self._away.items() if until > now}
        wanted = [job for job in jobs if not self._is_alone(job.decode(), now)] if self._alone else list(jobs)
        return sorted(wanted, key=lambda job: job.decode() in self._away) if self._away else wanted

    async def look(self) -> None:
        """Choose who makes room for shards that no worker has started."""
        now = asyncio.get_running_loop().time()
        idle = [hand for hand in self._hands if hand.since is not None and now >= hand.since + STEP_ASIDE]
        if idle and self.leases.jobs >= self.size and (leaving := self._later_ones(idle)):
            for hand in leaving[: await self._unstarted(len(leaving))]:
                hand.leaves = True

    async def why_stop(self, *, burst: bool, only: str | None = None) -> ConfigError | None:
        """Why this worker, with nothing in hand, can do nothing at all (of `only` one batch); None while it may."""
        if not self._alone:
            return None
        if not burst and await asyncio.to_thread(self.config.output_dir.is_dir):
            return None  # other batches may come
        queued = await Queue(self.redis, self.config.api_host).first(None)
        if not all(_batch(job) in self._alone for job in queued if only in (None, _batch(job))):
            return None
        return ConfigError(
            f"this worker sees none of the folders of the queued batches ({', '.join(sorted(self._alone))}) in "
            f"{self.config.output_dir.absolute()}: all producers and workers of one Redis must see the same "
            "BATCH_OUTPUT_DIR"
        )

    def _is_alone(self, job: str, now: float) -> bool:
        batch = _batch(job)
        if batch not in self._alone:
            return False
        if now < self._alone[batch]:
            return True
        self.leave_alone(batch)
        return False

    def _later_ones(self, idle: list[Hand]) -> list[Hand]:
        """Those that may leave, the last in the queue first: at most half of the slots are kept for who is next."""
        waiting, stay, leave = Counter[str](), 0, list[Hand]()
        for hand in sorted(idle, key=lambda hand: hand.score):
            is_next = any(waiting[wait] < FIRST for wait in hand.waits)
            waiting.update(hand.waits)
            if is_next and stay < self.size // 2:
                stay += 1
            else:
                leave.append(hand)
        return leave[::-1]

    async def _unstarted(self, most: int) -> int:
        jobs = await Queue(self.redis, self.config.api_host).first(LOOKED_AT)
        others = [job for job in jobs if job not in self._away and _batch(job) not in self._alone]
        others = [job for job in others if not self.leases.has_in_hand(job)]
        return len((await self.leases.unheld([lease_name(job) for job in others]))[:most])


def _batch(job: str) -> str:
    return job.split(":", 1)[0]
