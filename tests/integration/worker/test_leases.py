from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from worker.leases import Lease, Leases

JOB = "cats:0:0"
NAME = "cats:0"
SECONDS = 0.6


@pytest.fixture
async def mine(redis: Redis) -> AsyncIterator[Leases]:
    await redis.zadd(keys.queue("api"), {JOB: 1})
    leases = Leases(redis, "api", "me", SECONDS)
    async with leases.renewing():
        yield leases


@pytest.fixture
def theirs(redis: Redis) -> Leases:
    """Another process's, which never renews: as if it were dead or stalled."""
    return Leases(redis, "api", "them", SECONDS)


async def acquired(leases: Leases) -> Lease:
    lease = await leases.acquire(NAME, JOB)
    assert lease
    return lease


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_lease_keeps_arq_from_looking_at_the_job(mine: Leases, redis: Redis) -> None:
    await acquired(mine)
    assert await redis.get(keys.lease(NAME)) == b"me"
    assert 0 < await redis.pttl(keys.ARQ_IN_PROGRESS + JOB) <= SECONDS * 1000


async def test_a_lease_is_renewed_while_its_holder_lives(mine: Leases, theirs: Leases, redis: Redis) -> None:
    lease = await acquired(mine)
    waiting = asyncio.create_task(theirs.acquire(NAME, JOB))
    await asyncio.wait([waiting], timeout=SECONDS * 3)
    assert not waiting.done()
    assert await redis.get(keys.lease(NAME)) == b"me"
    await mine.release(lease)
    assert await waiting
    assert await redis.get(keys.lease(NAME)) == b"them"


async def test_the_lease_of_a_dead_worker_is_taken_over(mine: Leases, theirs: Leases, redis: Redis) -> None:
    await acquired(theirs)
    await acquired(mine)
    assert await redis.get(keys.lease(NAME)) == b"me"


async def test_a_job_that_left_the_queue_needs_no_lease(mine: Leases, theirs: Leases, redis: Redis) -> None:
    await acquired(theirs)
    waiting = asyncio.create_task(mine.acquire(NAME, JOB))
    await redis.zrem(keys.queue("api"), JOB)
    assert await waiting is None


async def test_a_late_renewal_leaves_no_mark_of_a_job_that_has_ended(
    mine: Leases, redis: Redis, eventually: Any
) -> None:
    lease = await acquired(mine)
    await redis.zrem(keys.queue("api"), JOB)
    await redis.delete(keys.ARQ_IN_PROGRESS + JOB)
    renewed_at = lease.renewed_at
    await eventually(lambda: lease.renewed_at != renewed_at)
    assert not await redis.exists(keys.ARQ_IN_PROGRESS + JOB)
    assert not lease.lost


async def test_who_waits_for_a_lease_keeps_the_job_from_being_started_again(
    mine: Leases, theirs: Leases, redis: Redis
) -> None:
    await acquired(theirs)
    await redis.delete(keys.ARQ_IN_PROGRESS + JOB)
    await redis.pexpire(keys.lease(NAME), 60_000)
    waiting = asyncio.create_task(mine.acquire(NAME, JOB))
    for _ in range(3):
        await asyncio.sleep(SECONDS)
        assert await redis.exists(keys.ARQ_IN_PROGRESS + JOB)
    mine.stopping.set()
    assert await waiting is None


async def test_the_body_runs_to_its_end_under_the_lease(mine: Leases) -> None:
    done: list[int] = []

    async def body() -> None:
        await asyncio.sleep(SECONDS * 2)
        done.append(1)

    assert await mine.run(await acquired(mine), body())
    assert done == [1]


async def test_the_body_is_cancelled_when_the_lease_is_lost(mine: Leases, redis: Redis) -> None:
    lease = await acquired(mine)
    running = asyncio.create_task(mine.run(lease, for_ever()))
    await redis.set(keys.lease(NAME), "them", px=200)
    assert await running is False
    assert await acquired(mine) is not lease


async def test_a_lease_lost_before_its_body_began_is_found_out(mine: Leases, redis: Redis) -> None:
    lease = await acquired(mine)
    await redis.set(keys.lease(NAME), "them")
    await asyncio.wait_for(lease.ended.wait(), 30)
    assert lease.lost


async def test_a_lease_is_lost_when_redis_is_away_for_longer(mine: Leases, redis: Redis) -> None:
    lease = await acquired(mine)
    await redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        assert await mine.run(lease, for_ever()) is False
    finally:
        await redis.execute_command("CLIENT", "UNPAUSE")


async def test_an_error_of_the_body_comes_through(mine: Leases) -> None:
    async def body() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await mine.run(await acquired(mine), body())


async def test_cancelling_from_outside_cancels_the_body(mine: Leases) -> None:
    lease = await acquired(mine)
    running = asyncio.create_task(mine.run(lease, for_ever()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert lease.body
    assert lease.body.cancelled()


async def test_one_process_runs_a_shard_once_at_a_time(mine: Leases, redis: Redis) -> None:
    await redis.zadd(keys.queue("api"), {"cats:0:1": 1})
    lease = await acquired(mine)
    second = asyncio.create_task(mine.acquire(NAME, "cats:0:1"))
    await asyncio.wait([second], timeout=SECONDS)
    assert not second.done()
    await mine.release(lease)
    assert await second


async def test_releasing_what_was_lost_leaves_the_new_owner_alone(mine: Leases, theirs: Leases, redis: Redis) -> None:
    lease = await acquired(mine)
    await redis.delete(keys.lease(NAME))
    await acquired(theirs)
    await mine.release(lease)
    assert await redis.get(keys.lease(NAME)) == b"them"


async def test_nobody_waits_once_the_process_stops(mine: Leases, theirs: Leases) -> None:
    await acquired(theirs)
    waiting = asyncio.create_task(mine.acquire(NAME, JOB))
    await asyncio.sleep(0)
    mine.stopping.set()
    assert await waiting is None


async def test_at_the_end_bodies_are_cancelled_and_leases_given_up(redis: Redis) -> None:
    await redis.zadd(keys.queue("api"), {JOB: 1})
    leases = Leases(redis, "api", "me", SECONDS)
    async with leases.renewing():
        running = asyncio.create_task(leases.run(await acquired(leases), for_ever()))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await redis.get(keys.lease(NAME)) is None


async def test_a_role_needs_no_job(mine: Leases, redis: Redis) -> None:
    assert await mine.acquire("leader", "")
    assert await redis.get(keys.lease("leader")) == b"me"


async def test_a_lease_is_sure_until_its_time_is_over(redis: Redis, eventually: Callable[..., Any]) -> None:
    await redis.zadd(keys.queue("api"), {JOB: 1})
    leases = Leases(redis, "api", "me", SECONDS)  # it never renews: as one that stalls
    assert leases.is_valid(NAME), "nobody holds it here"
    await acquired(leases)
    assert leases.is_valid(NAME)
    await eventually(lambda: not leases.is_valid(NAME))


async def test_a_lease_that_is_renewed_stays_sure_and_a_lost_one_never_is(mine: Leases) -> None:
    lease = await acquired(mine)
    running = asyncio.create_task(mine.run(lease, for_ever()))
    await asyncio.wait([running], timeout=SECONDS * 2)
    assert mine.is_valid(NAME)
    lease.lost = True
    assert not mine.is_valid(NAME)
    running.cancel()
    await asyncio.wait([running])
