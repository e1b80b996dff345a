"""Leases of shards and of roles: a process renews those it holds, and loses them when it stalls or dies.

A shard's job may return only while it holds the lease, or after the shard has left the queue: arq deletes the job of a
run that returns, even if another process runs it. When a worker dies, its leases expire: arq then starts its shards on
others (`shard/run.py`), or, if these are full, `shard/rescue.py` saves the outputs that would be lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from redis.exceptions import RedisError

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.outage import OUTAGE
from jobs.redis_client.resilience import Redis
from worker.background import every

logger = logging.getLogger(__name__)

RELEASE_SECONDS = 2.0
"""How long releasing a lease may take; otherwise it expires."""

LeaseState = Literal["mine", "taken", "gone"]
"""`taken`: another process holds the lease; `gone`: its job has left the queue."""


def lease_name(job_id: str) -> str:
    """The name of the lease of a job's shard, `<batch>:<n>`; all generations share it."""
    return job_id.rpartition(":")[0]


@dataclass(slots=True, eq=False)
class Lease:
    """A lease of this process; `job` is its arq job, or "" for a role."""

    name: str
    job: str
    renewed_at: float | None = None
    lost: bool = False
    body: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Leases:
    """All leases of one process; they are renewed together every third of their lifetime."""

    def __init__(self, redis: Redis, api_host: str, owner: str, seconds: float) -> None:
        self._redis = redis
        self._api_host = api_host
        self.owner = owner
        self.seconds = seconds
        self._held: dict[str, Lease] = {}
        self.stopping = asyncio.Event()
        """Set when the process stops; then nobody waits for a lease."""

    async def acquire(self, name: str, job: str) -> Lease | None:
        """Wait for the lease, and until nothing else runs under it in this process.

        None when the job has left the queue, or this process stops.
        """
        while not self.stopping.is_set():
            other = self._held.get(name)
            lease = Lease(name, job)
            if not other:
                self._held[name] = lease
            state = await self._try(lease, "wait" if other else "acquire")
            if state == "mine":
                return lease
            self._forget(lease)
            if state == "gone":
                return None
            await self._wait_for(other.ended if other else self.stopping)
        return None

    async def try_acquire(self, name: str, job: str) -> Lease | None:
        """Acquire a lease without waiting; None when it is taken, or arq has started its job."""
        if name in self._held:
            return None
        lease = self._held[name] = Lease(name, job)
        if await self._try(lease, "try_acquire") == "mine":
            return lease
        self._forget(lease)
        return None

    async def find_unheld(self, names: Sequence[str]) -> list[str]:
        """Return those of the leases that nobody holds."""
        owners = await self._redis.mget([keys.lease(name) for name in names]) if names else []
        return [name for name, owner in zip(names, owners, strict=True) if owner is None]

    async def mark_in_progress(self, job: str) -> None:
        """Renew arq's in-progress key of the job, so that no other worker starts it."""
        try:
            await self._call("wait", Lease("", job))
        except RedisError as error:
            logger.debug("job %s: %s", job, error)

    def is_valid(self, name: str) -> bool:
        """Whether a run under the lease may still act; False once it has expired, even if nobody has noticed yet."""
        lease = self._held.get(name)
        if lease is None or lease.renewed_at is None:
            return True
        return not lease.lost and asyncio.get_running_loop().time() - lease.renewed_at < self.seconds

    async def _try(self, lease: Lease, op: str) -> LeaseState:
        asked_at = asyncio.get_running_loop().time()
        try:
            state = await self._call(op, lease)
        except RedisError as error:
            logger.debug("lease %s: not asked, %s", lease.name, error)
            return "taken"
        except BaseException:
            self._forget(lease)
            raise
        if state == "mine":
            lease.renewed_at = asked_at
        return state

    async def run(self, lease: Lease, body: Coroutine[Any, Any, None]) -> bool:
        """Run `body` while we hold the lease; False when it was lost and `body` cancelled."""
        lease.body = asyncio.create_task(body)
        try:
            await lease.body
        except asyncio.CancelledError:
            if not lease.lost or _is_cancelled():
                raise
        finally:
            if lease.lost:
                self._forget(lease)
        return not lease.lost

    async def release(self, lease: Lease, *, reopen: bool = False) -> None:
        """Release the lease, unless it was lost; while Redis is away it expires instead.

        `reopen`: also let arq start the job at once.
        """
        if self._held.get(lease.name) is lease:
            self._forget(lease)
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._call("reopen" if reopen else "release", lease)

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """Renew all leases until the block ends; then cancel what runs under them and release them."""
        try:
            async with every(self.seconds / 3, self._renew_all):
                yield
        finally:
            self.stopping.set()
            bodies = [lease.body for lease in self._held.values() if lease.body]
            for body in bodies:
                body.cancel()
            await asyncio.gather(*bodies, return_exceptions=True)
            await asyncio.gather(*map(self.release, list(self._held.values())))

    async def _renew_all(self) -> None:
        renewals = [self._renew(lease) for lease in self._held.values() if lease.renewed_at]
        lost = [name for name in await asyncio.gather(*renewals, return_exceptions=True) if name]
        if lost and not OUTAGE.failed_within(2 * self.seconds):  # that Redis is down is logged already
            names = ", ".join(map(str, lost))
            logger.warning(
                "! the lease was lost: %s (this worker stalled, or Redis did not answer)",
                names,
                extra={"event": "lease_lost"},
            )

    async def _renew(self, lease: Lease) -> str | None:
        """Renew a lease; returns its name if it is lost."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(self.seconds / 3):
                mine = await self._call("renew", lease) == "mine"
        except (RedisError, TimeoutError):
            mine = loop.time() - (lease.renewed_at or 0) < self.seconds
        else:
            lease.renewed_at = asked_at if mine else lease.renewed_at
        if not mine and not lease.lost and self._held.get(lease.name) is lease:
            self._lose(lease)
            return lease.name
        return None

    def _lose(self, lease: Lease) -> None:
        lease.lost = True
        if lease.body is None:
            self._forget(lease)
        else:
            lease.body.cancel()

    def _forget(self, lease: Lease) -> None:
        if self._held.get(lease.name) is lease:
            del self._held[lease.name]
        lease.ended.set()

    def absorb_cancel(self) -> None:
        """Take the cancel of this task as the process's stop, and continue."""
        self.stopping.set()
        if task := asyncio.current_task():
            task.uncancel()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until this process stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def _wait_for(self, event: asyncio.Event) -> None:
        """Wait for an event, but no longer than a dead owner's lease may take to expire."""
        try:
            async with asyncio.timeout(min(self.seconds / 5, 1.0)):
                await event.wait()
        except TimeoutError:
            return

    async def _call(self, op: str, lease: Lease) -> LeaseState:
        script = load_script(self._redis, __name__)
        names = [keys.lease(lease.name), keys.ARQ_IN_PROGRESS + lease.job, keys.queue(self._api_host)]
        state: bytes = await script(keys=names, args=[op, self.owner, int(self.seconds * 1000), lease.job])
        return state.decode()  # type: ignore[return-value]  # the script returns no other text


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
