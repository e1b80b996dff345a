from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis as BlockingRedis

from jobs.config import Config
from jobs.model_limits import ModelLimits
from jobs.operations.operations import Operations
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch
from tests.integration.worker.limits.timed_script import TimedScript
from worker.limits import model_limiter
from worker.limits.model_limiter import ModelBusy, ModelLimiter


@pytest.fixture(autouse=True)
async def batches(redis: Redis, config: Config) -> Batches:
    batches = Batches(redis)
    await batches.open(Batch("night", "b1", config.api_host, 1.0, 100, 0, 1.0))
    return batches


def turns(redis: Redis, config: Config, limits: str) -> ModelLimiter:
    """Each call stands for another worker."""
    return ModelLimiter(redis, config.model_copy(update={"model_limits": ModelLimits.parse(limits)}))


async def test_no_more_are_in_flight_at_once_however_many_workers_there_are(redis: Redis, config: Config) -> None:
    one, other = turns(redis, config, "a/b=max 2"), turns(redis, config, "a/b=max 2")
    await one.start("a/b", "night/1")
    await other.start("a/b:v", "night/2")
    await other.start("a/b:v", "night/2")  # again: its create was held back
    with pytest.raises(ModelBusy):
        await one.start("a/b", "night/3")
    await one.start("a/c", "night/4")
    await other.release("a/b", "night/1")
    await one.start("a/b", "night/3")
    with pytest.raises(ModelBusy):
        await other.start("a/b", "night/1")


async def test_a_prediction_that_nobody_ends_counts_until_its_deadline_is_over(redis: Redis, config: Config) -> None:
    mine = turns(redis, config, "a/b=max 1")
    await mine.start("a/b", "night/1")
    key = keys.model_in_flight(config.api_host, "a/b")
    assert config.deadline < await redis.ttl(key) <= config.deadline + 300
    await redis.zincrby(key, -(config.deadline + 299) * 1000, "night/1")
    with pytest.raises(ModelBusy):
        await mine.start("a/b", "night/2")
    await redis.zincrby(key, -1000, "night/1")
    await mine.start("a/b", "night/2")


@pytest.mark.parametrize("rate", [1, 2, 6, 59, 60, 600])
async def test_no_minute_sees_more_creates_than_the_models_limit(
    redis: Redis, blocking_redis: BlockingRedis, config: Config, rate: int
) -> None:
    mine = turns(redis, config, f"a/b={rate}/min")
    times, now, epoch = list[int](), 0, (await redis.time())[0]
    forever = {"math.ceil(interval / 500)": "3600000"}  # it expires in real time
    script = TimedScript(blocking_redis, model_limiter, lambda: epoch * 1_000_000 + now, forever)
    while now < 300e6:
        queue = mine._queue_of("a/b")
        assert queue
        wait = await script(mine._keys(queue, "night/1"), ["start", "night/1", 1000, "", rate, "a/b"])
        if not wait:
            times.append(now)
        now += wait or 1
    most = max(bisect_left(times, start + 60e6) - number for number, start in enumerate(times))
    assert most <= rate
    assert len(times) >= (rate - 1) * 5, "and it is used"


async def test_the_first_in_order_tries_and_the_others_wait(
    redis: Redis, config: Config, eventually: Callable[..., Any]
) -> None:
    mine = turns(redis, config, "a/b=max 1")
    tried: list[str] = []

    async def run(name: str, order: float) -> None:
        while True:
            await mine.acquire("a/b", name, order)
            tried.append(name)
            try:
                await mine.start("a/b", name)
            except ModelBusy:
                mine.leave("a/b", name)
                continue
            await mine.release("a/b", name)
            return

    await mine.start("a/b", "night/0")
    await mine.acquire("a/b", "night/00", 0.0)
    tasks = [asyncio.create_task(run(f"night/{n}", n)) for n in (3, 1, 2)]
    await asyncio.sleep(0)
    mine.leave("a/b", "night/00")
    await eventually(lambda: len(tried) > 1)
    assert set(tried) == {"night/1"}
    await mine.release("a/b", "night/0")
    await asyncio.gather(*tasks)
    assert list(dict.fromkeys(tried)) == ["night/1", "night/2", "night/3"]


async def test_one_that_is_cancelled_leaves_its_turn_to_the_next(redis: Redis, config: Config) -> None:
    mine = turns(redis, config, "a/b=max 1")
    await mine.start("a/b", "night/0")
    waiting = [asyncio.create_task(mine.acquire("a/b", f"night/{n}", n)) for n in (1, 2)]
    mine._queues["a/b"].open_at += 3600
    await asyncio.sleep(0)
    mine._queues["a/b"].open_at = 0.0
    waiting[0].cancel()
    await asyncio.wait_for(waiting[1], 10)
    assert waiting[0].cancelled()


async def test_a_batch_that_is_deleted_gives_back_its_turns_and_takes_none(
    redis: Redis, config: Config, batches: Batches
) -> None:
    await batches.open(Batch("day", "b2", config.api_host, 1.0, 100, 0, 1.0))
    mine = turns(redis, config, "a/b=max 3")
    for name in ("night/1", "night/2", "day/1"):
        await mine.start("a/b", name)
    with pytest.raises(ModelBusy):
        await mine.start("a/b", "day/2")
    assert await Operations(config, redis).delete("night", force=True) == 0
    await mine.start("a/b", "night/3")  # its worker has not noticed yet
    key = keys.model_in_flight(config.api_host, "a/b")
    assert await redis.zrange(key, 0, -1) == [b"day/1"]
    for name in ("day/2", "day/3"):
        await mine.start("a/b", name)
