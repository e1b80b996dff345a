"""The workers that are up, and what each of them does."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

FORGOTTEN = 3600
"""Seconds after its last heartbeat for which a worker that died is remembered."""


class WorkerReport(BaseModel):
    """What a worker says of itself; `since` is in Unix seconds, `unsaved` predictions succeeded and are not on disk.

    `creates` and `reads` are the requests that it made within the last minute.
    """

    host: str
    pid: int
    since: float
    in_flight: int = 0
    downloads: int = 0
    unsaved: int = 0
    shards: int = 0
    creates: int = 0
    reads: int = 0


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker and its report; one of an earlier version has none. `silent` seconds ago its heartbeat ran out."""

    id: str
    report: WorkerReport | None
    silent: float

    @property
    def is_up(self) -> bool:
        """Whether its last heartbeat still counts."""
        return self.silent < 0


async def send_heartbeat(
    redis: Redis, api_host: str, worker_id: str, ttl: float, report: WorkerReport | None = None
) -> None:
    """Count a worker as up for another `ttl` seconds."""
    now = time.time()
    gone = await redis.zrangebyscore(keys.workers(api_host), 0, now - FORGOTTEN)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zadd(keys.workers(api_host), {worker_id: now + ttl})
        if report:
            pipe.hset(keys.worker_reports(api_host), worker_id, report.model_dump_json())
        if gone:
            pipe.zrem(keys.workers(api_host), *gone)
            pipe.hdel(keys.worker_reports(api_host), *gone)
        await pipe.execute()


async def remove_worker(redis: Redis, api_host: str, worker_id: str) -> None:
    """Stop counting a worker, which ends."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zrem(keys.workers(api_host), worker_id)
        pipe.hdel(keys.worker_reports(api_host), worker_id)
        await pipe.execute()


async def live_workers(redis: Redis, api_host: str) -> list[LiveWorker]:
    """The workers that are up, and those that died within the last hour without saying so."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zrange(keys.workers(api_host), 0, -1, withscores=True)
        pipe.hgetall(keys.worker_reports(api_host))
        workers, reports = await pipe.execute()
    now = time.time()
    return [LiveWorker(one.decode(), _parse(reports.get(one)), now - until) for one, until in workers]


def _parse(text: bytes | None) -> WorkerReport | None:
    try:
        return WorkerReport.model_validate_json(text) if text else None
    except ValidationError:
        return None
