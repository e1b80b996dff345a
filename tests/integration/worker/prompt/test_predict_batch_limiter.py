"""The path of a prompt whose batch limits its predictions in flight: who waits, what is held, what is given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.wire import Batch, Shard
from tests.integration.worker.prompt import works
from worker.context import Context
from worker.prompt.predict import predict
from worker.shard.run import run_shard

KEY = keys.places("night")
work = partial(works.work, model="simulator/text", limited=True)


@pytest.fixture
async def two(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> tuple[Context, Context]:
    """Two workers on one batch that allows three predictions in flight."""
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.2, loose=0.0)
    settings = {"max_attempts": 2, "breaker_failures": 0.02, "breaker_pause": 600.0}
    one, other = await open_worker(**settings), await open_worker(**settings)
    await open_batch(one, total=100)
    await one.batches.set_budget("night", None, None, 3)
    return one, other


def most_at_once(simulator: Any) -> int:
    """By the count of the API."""
    creates = simulator.ledger()["creates"]
    changes = sorted(
        [(row["created_at"], 1) for row in creates]
        + [(row["finished_at"], -1) for row in creates if row["finished_at"] is not None]
    )
    running, most = 0, 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


async def created(simulator: Any) -> int:
    return int((await asyncio.to_thread(simulator.ledger))["created"])


def were_refused_again(refused: Sequence[Counter[int]], before: Sequence[int]) -> bool:
    return all(each.total() > least + 1 for each, least in zip(refused, before, strict=True))


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_two_workers_never_have_more_in_flight_than_the_batch_allows(
    two: tuple[Context, Context], simulator: Any, redis: Redis
) -> None:
    works = [work(two[index % 2], index) for index in range(30)]
    await asyncio.gather(*map(predict, reversed(works)))
    assert most_at_once(simulator) == 3
    seeds = [row["input"]["seed"] for row in simulator.ledger()["creates"]]
    assert len(seeds) == 30
    for worker in range(2):
        own = [seed for seed in seeds if seed % 2 == worker]
        late = sum(before > after for before, after in pairwise(own))
        assert late <= 3, "in order, but for those that found places free, and neighbours whose creates overtake"
    assert not await redis.exists(KEY)
    assert (await two[0].batches.get("night")).succeeded == 30


async def test_the_prediction_of_a_worker_that_died_keeps_its_place_until_it_is_settled(
    two: tuple[Context, Context],
    simulator: Any,
    redis: Redis,
    refusals: Callable[..., Counter[int]],
    eventually: Callable[..., Any],
) -> None:
    simulator.settings(predict_min=2.0, predict_max=2.0)
    await two[0].batches.set_budget("night", None, None, 1)
    refused = refusals(two[1].batch_limiter)
    died = asyncio.create_task(predict(work(two[0], 0)))
    await eventually(lambda: redis.hlen(keys.ledger("night")))
    await eventually(lambda: created(simulator))
    await end(died)
    waiting = asyncio.create_task(predict(work(two[1], 1)))
    await eventually(lambda: refused[1])
    assert await redis.zrange(KEY, 0, -1) == [b"0"]
    await predict(work(two[1], 0))
    await waiting
    assert most_at_once(simulator) == 1
    assert simulator.ledger()["created"] == 2
    assert not await redis.exists(KEY)


async def test_a_prediction_that_runs_already_waits_for_no_place_and_counts(
    two: tuple[Context, Context], simulator: Any, redis: Redis, eventually: Callable[..., Any]
) -> None:
    simulator.settings(predict_min=2.0, predict_max=2.0)
    await two[0].batches.set_budget("night", None, None, 1)
    unlimited = asyncio.create_task(predict(replace(work(two[0], 0), limited=False)))
    await eventually(lambda: created(simulator))
    await end(unlimited)
    assert not await redis.exists(KEY), "batches without a limit do not pay for it"
    attached = [asyncio.create_task(predict(work(two[0], 0)))]
    await eventually(lambda: redis.zcard(KEY))
    attached.append(asyncio.create_task(predict(work(two[1], 1))))
    await asyncio.gather(*attached)
    assert most_at_once(simulator) == 1


async def test_prompts_whose_model_is_paused_hold_no_places(
    two: tuple[Context, Context], redis: Redis, eventually: Callable[..., Any]
) -> None:
    worker = two[0]
    await worker.batches.set_budget("night", None, None, 1)
    await asyncio.gather(*(worker.connections.acquire(0.0) for _ in range(worker.connections.size)))
    early = asyncio.create_task(predict(work(worker, 1, model="simulator/image")))
    await eventually(lambda: redis.zcard(KEY))  # it has its place, and waits for a connection
    for _ in range(2):
        await worker.breaker.record_outcome("simulator/image", "night/other", "failed", "gone")
    late = [asyncio.create_task(predict(work(worker, index, model="simulator/image"))) for index in (2, 3)]
    for _ in range(worker.connections.size):
        worker.connections.release()
    await asyncio.wait_for(predict(work(worker, 4)), 30)
    assert not await redis.exists(KEY)
    assert all(worker.waits.reason_before_create(f"night/p{index}") for index in (1, 2, 3))
    await end(early, *late)


async def test_an_attempt_that_fails_gives_its_place_to_the_next(
    two: tuple[Context, Context], simulator: Any, redis: Redis
) -> None:
    await two[0].batches.set_budget("night", None, None, 1)
    simulator.control(failed={"next": 1})
    await asyncio.gather(*(predict(work(two[0], index)) for index in range(3)))
    assert simulator.ledger()["created"] == 4
    assert most_at_once(simulator) == 1
    assert (await two[0].batches.get("night")).succeeded == 3
    assert not await redis.exists(KEY)


async def test_a_place_that_was_lost_meanwhile_is_waited_for_again(
    two: tuple[Context, Context],
    simulator: Any,
    redis: Redis,
    refusals: Callable[..., Counter[int]],
    eventually: Callable[..., Any],
) -> None:
    await two[0].batches.set_budget("night", None, None, 1)
    refused = refusals(two[0].batch_limiter)
    held = [two[0].connections.acquire(0.0) for _ in range(two[0].connections.size)]
    await asyncio.gather(*held)
    task = asyncio.create_task(predict(work(two[0], 0)))
    await eventually(lambda: redis.zcard(KEY))
    await redis.delete(KEY)  # it waited until it did not count any more
    assert await two[1].batch_limiter.try_acquire(work(two[1], 1).shard, 1)
    two[0].connections.release()
    await eventually(lambda: refused[0] > 1)  # right before its request, and in the queue again
    assert simulator.ledger()["created"] == 0
    await two[1].batch_limiter.release(work(two[1], 1).shard, 1)
    await task
    assert simulator.ledger()["created"] == 1


async def test_a_limit_that_is_raised_takes_effect_for_those_that_wait(
    two: tuple[Context, Context],
    simulator: Any,
    refusals: Callable[..., Counter[int]],
    eventually: Callable[..., Any],
) -> None:
    simulator.settings(predict_min=60.0, predict_max=60.0)
    refused = refusals(two[0].batch_limiter), refusals(two[1].batch_limiter)
    tasks = [asyncio.create_task(predict(work(two[index % 2], index))) for index in range(8)]
    for limit in (3, 5):
        await two[0].batches.set_budget("night", None, None, limit)

        async def reached(limit: int = limit) -> bool:
            return await created(simulator) == limit

        await eventually(reached)
        before = [each.total() for each in refused]
        await eventually(partial(were_refused_again, refused, before))
        assert await created(simulator) == limit
    await end(*tasks)


async def test_a_shard_in_hand_heeds_a_first_limit_within_seconds(
    two: tuple[Context, Context], simulator: Any, redis: Redis, eventually: Callable[..., Any]
) -> None:
    simulator.settings(predict_min=60.0, predict_max=60.0)
    await redis.hdel(keys.batch("night"), "max_in_flight")
    prompts = tuple(work(two[0], index).prompt for index in range(3))
    task = asyncio.create_task(run_shard(two[0], Shard("night", "b1", 0, 0, prompts)))

    async def all_run() -> bool:
        return await created(simulator) == 3

    await eventually(all_run)
    assert not await redis.exists(KEY)
    await two[0].batches.set_budget("night", None, None, 2)
    await eventually(lambda: redis.zcard(KEY))
    assert not await two[1].batch_limiter.try_acquire(work(two[1], 7).shard, 7)
    await end(task)
