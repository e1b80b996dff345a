"""Leases: one class for shards and for roles. Whoever holds one renews it while alive; who stalls or dies loses it.

A shard's job may return only while its lease is held, or when the shard has left the queue: a stale run that returns
makes arq delete the shard from under its new owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs import keys
from jobs.connection import load_script

logger = logging.getLogger("worker.lease")
Verdict = Literal["mine", "taken", "gone"]


@dataclass(slots=True, eq=False)
class Lease:
    """One name held by this process; `job` is the arq job that is kept from others, "" for a role."""

    name: str
    job: str
    renewed_at: float | None = None
    lost: bool = False
    body: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Leases:
    """All leases of one process, renewed together every third of their time."""

    def __init__(self, redis: Redis, realm: str, owner: str, seconds: float) -> None:
        self._redis = redis
        self._realm = realm
        self._owner = owner
        self._seconds = seconds
        self._held: dict[str, Lease] = {}
        self.stopping = asyncio.Event()
        """Set when the process ends: nobody waits for a lease any more."""

    async def acquire(self, name: str, job: str) -> Lease | None:
        """Wait until the lease is ours and nothing else of this process runs under it.

        None: the job has left the queue, or this process stops.
        """
        while not self.stopping.is_set():
            if other := self._held.get(name):
                await self._pause(other.ended)
                continue
            lease = self._held[name] = Lease(name, job)
            if (verdict := await self._try(lease)) == "mine":
                return lease
            self._forget(lease)
            if verdict == "gone":
                return None
            await self._pause(self.stopping)
        return None

    async def _try(self, lease: Lease) -> Verdict:
        asked_at = asyncio.get_running_loop().time()
        try:
            verdict = await self._ask("acquire", lease)
        except RedisError as error:
            logger.debug("lease %s: not asked, %s", lease.name, error)
            return "taken"
        except BaseException:
            self._forget(lease)
            raise
        if verdict == "mine":
            lease.renewed_at = asked_at
        return verdict

    async def run(self, lease: Lease, body: Coroutine[Any, Any, None]) -> bool:
        """Run `body` while we hold the lease; False when it was lost, with `body` cancelled."""
        lease.body = asyncio.create_task(body)
        try:
            await lease.body
        except asyncio.CancelledError:
            if not lease.lost or _cancelled_from_outside():
                raise
        finally:
            if lease.lost:
                self._forget(lease)
        return not lease.lost

    async def release(self, lease: Lease) -> None:
        """Give the lease up; one that was lost is left alone, and what Redis does not hear of expires."""
        if self._held.get(lease.name) is lease:
            self._forget(lease)
            with suppress(RedisError):
                await self._ask("release", lease)

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """Renew all that is held until the block ends; then end what runs, and give up the rest."""
        task = asyncio.create_task(self._renew_for_ever())
        try:
            yield
        finally:
            self.stopping.set()
            task.cancel()
            bodies = [lease.body for lease in self._held.values() if lease.body]
            for body in bodies:
                body.cancel()
            await asyncio.wait([task, *bodies])
            for lease in list(self._held.values()):
                await self.release(lease)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            await asyncio.gather(*(self._renew(lease) for lease in list(self._held.values()) if lease.renewed_at))

    async def _renew(self, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(self._seconds / 3):
                mine = await self._ask("renew", lease) == "mine"
        except (RedisError, TimeoutError):
            mine = loop.time() - (lease.renewed_at or 0) < self._seconds
        else:
            lease.renewed_at = asked_at if mine else lease.renewed_at
        if not mine and not lease.lost and self._held.get(lease.name) is lease:
            self._lose(lease)

    def _lose(self, lease: Lease) -> None:
        logger.warning(
            "! %s: the lease was lost (this worker stalled, or Redis was away); its run ends here", lease.name
        )
        lease.lost = True
        if lease.body is None:
            self._forget(lease)
        else:
            lease.body.cancel()

    def _forget(self, lease: Lease) -> None:
        if self._held.get(lease.name) is lease:
            del self._held[lease.name]
        lease.ended.set()

    async def _pause(self, event: asyncio.Event) -> None:
        """Wait for an event, but not longer than it takes until a dead owner's lease may have run out."""
        try:
            async with asyncio.timeout(min(self._seconds / 5, 1.0)):
                await event.wait()
        except TimeoutError:
            return

    async def _ask(self, op: str, lease: Lease) -> Verdict:
        script = load_script(self._redis, "worker.lease")
        names = [keys.lease(lease.name), keys.ARQ_IN_PROGRESS + lease.job, keys.queue(self._realm)]
        verdict: bytes = await script(keys=names, args=[op, self._owner, int(self._seconds * 1000), lease.job])
        return verdict.decode()  # type: ignore[return-value]  # the script knows no other word


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
