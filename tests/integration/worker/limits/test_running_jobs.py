from __future__ import annotations

import asyncio

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from worker.leases import Leases
from worker.limits.job_slots import RunningJobs

JOB = "cats:0:0"
SECONDS = 0.6


async def test_two_runs_of_a_job_in_one_process_are_one_after_the_other(redis: Redis) -> None:
    await redis.zadd(keys.queue("api"), {JOB: 1})
    leases = Leases(redis, "api", "me", SECONDS)
    running = RunningJobs(leases)
    order: list[str] = []
    saved = asyncio.Event()

    async def run(name: str) -> None:
        await running.single_flight(JOB)
        order.append(f"{name} begins")
        try:
            if name == "first":
                await asyncio.Event().wait()
        finally:
            if name == "first":
                await saved.wait()
            order.append(f"{name} ends")

    first = asyncio.create_task(run("first"))
    await asyncio.sleep(0)
    second = asyncio.create_task(run("second"))
    await asyncio.wait([second], timeout=SECONDS)
    assert order == ["first begins"]
    second.cancel()  # as SIGTERM does: it must still wait, and see to it that the first one ends
    await asyncio.wait([second], timeout=SECONDS)
    assert order == ["first begins"]
    assert leases.stopping.is_set()
    assert first.cancelling()
    saved.set()
    await asyncio.gather(first, second, return_exceptions=True)
    assert not second.cancelled()
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    await asyncio.sleep(0)
    assert JOB not in running
