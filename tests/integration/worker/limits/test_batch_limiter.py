"""The places of a batch that limits its predictions in flight, as several workers see them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Shard
from worker.limits.batch_limiter import BatchConcurrencyLimit

SHARD = Shard("night", "b1", 0, 0, ())
KEY = keys.places("night")


@pytest.fixture
async def batches(redis: Redis) -> Batches:
    batches = Batches(redis)
    await batches.open(Batch("night", "b1", "realm", 1.0, 100, 0, 1.0))
    await batches.set_budget("night", None, None, 2)
    return batches


@pytest.fixture
def two(redis: Redis, batches: Batches) -> tuple[BatchConcurrencyLimit, BatchConcurrencyLimit]:
    """Two workers."""
    assert batches
    return BatchConcurrencyLimit(redis, 600.0), BatchConcurrencyLimit(redis, 600.0)


async def test_there_are_no_more_than_the_limit_however_many_workers_there_are(
    two: tuple[BatchConcurrencyLimit, BatchConcurrencyLimit], batches: Batches
) -> None:
    one, other = two
    assert await one.try_acquire(SHARD, 1)
    assert await other.try_acquire(SHARD, 2)
    assert await other.try_acquire(SHARD, 1), "who has one keeps it"
    assert not await one.try_acquire(SHARD, 3)
    await one.count(SHARD, 4)  # it runs already
    await one.release(SHARD, 1)
    assert not await one.try_acquire(SHARD, 3)
    await batches.set_budget("night", None, None, 3)
    assert await one.try_acquire(SHARD, 3)


async def test_a_result_gives_back_the_place_of_a_worker_that_died(
    two: tuple[BatchConcurrencyLimit, BatchConcurrencyLimit], batches: Batches, redis: Redis
) -> None:
    for index in (1, 2):
        await two[0].try_acquire(SHARD, index)
    await batches.settle("night", 1, "succeeded", "b1")
    assert await two[1].try_acquire(SHARD, 3)
    assert await two[1].try_acquire(SHARD, 1), "it has no use for one any more"
    assert await redis.zrange(KEY, 0, -1) == [b"2", b"3"]
    await batches.delete("night")
    assert not await redis.exists(KEY)


async def test_a_place_that_nobody_gives_counts_until_its_prediction_is_over(
    two: tuple[BatchConcurrencyLimit, BatchConcurrencyLimit], redis: Redis
) -> None:
    for index in (1, 2):
        await two[0].try_acquire(SHARD, index)
    until, now = await redis.zscore(KEY, "1"), (await redis.time())[0] * 1000
    assert until
    assert now + 600_000 < until <= now + 1000 + 900_000
    await redis.zadd(KEY, {"1": now - 1000})
    assert await two[1].try_acquire(SHARD, 3)
    assert not await two[0].try_acquire(SHARD, 1)


async def test_another_batch_of_that_name_is_left_alone(
    two: tuple[BatchConcurrencyLimit, BatchConcurrencyLimit], redis: Redis
) -> None:
    await two[0].try_acquire(SHARD, 1)
    stale = Shard("night", "b0", 0, 0, ())
    assert await two[1].try_acquire(stale, 5)
    await two[1].count(stale, 6)
    await two[1].release(stale, 1)
    assert await redis.zrange(KEY, 0, -1) == [b"1"]


@pytest.mark.usefixtures("batches")
async def test_many_prompts_of_many_workers_share_the_places(redis: Redis) -> None:
    running, most, begun = 0, 0, list[tuple[int, int]]()

    async def run(worker: int, places: BatchConcurrencyLimit, index: int) -> None:
        nonlocal running, most
        await places.acquire(SHARD, index, index)
        running += 1
        most = max(most, running)
        begun.append((worker, index))
        await asyncio.sleep(0.005)
        running -= 1
        await places.release(SHARD, index)

    workers = [BatchConcurrencyLimit(redis, 600.0) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for index in reversed(range(90)):
            group.create_task(run(index % 3, workers[index % 3], index))
    assert (most, running, len(begun)) == (2, 0, 90)
    assert not any(places._queues for places in workers), "nobody waits"  # noqa: SLF001 - only memory tells
    for worker in range(3):
        own = [index for who, index in begun if who == worker]
        assert own[1:] == sorted(own[1:]), "but for the one that came first, when nobody waited"


async def test_the_first_goes_on_as_soon_as_a_prediction_of_its_worker_ends(
    redis: Redis, batches: Batches, refusals: Callable[..., Counter[int]], eventually: Callable[..., Any]
) -> None:
    assert batches
    limiter = BatchConcurrencyLimit(redis, 600.0, retry=3600.0)
    for index in (1, 2):
        await limiter.try_acquire(SHARD, index)
    refused = refusals(limiter)
    waiting = asyncio.create_task(limiter.acquire(SHARD, 3, 3.0))
    await eventually(lambda: refused[3])
    await limiter.release(SHARD, 1)
    await asyncio.wait_for(waiting, 10)


async def test_one_that_is_cancelled_leaves_its_turn_to_the_next_and_holds_nothing(
    two: tuple[BatchConcurrencyLimit, BatchConcurrencyLimit],
    redis: Redis,
    refusals: Callable[..., Counter[int]],
    eventually: Callable[..., Any],
) -> None:
    for index in (1, 2):
        await two[0].try_acquire(SHARD, index)
    refused = refusals(two[0])
    waiting = [asyncio.create_task(two[0].acquire(SHARD, index, index)) for index in (3, 4)]
    await eventually(lambda: refused[3])
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    await two[1].release(SHARD, 1)
    await asyncio.wait_for(waiting[1], 10)
    assert await redis.zrange(KEY, 0, -1) == [b"2", b"4"]
