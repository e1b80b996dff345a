"""A shard that runs obeys what people change of its batch meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.wire import Batch, Prompt, Shard
from tests.integration.worker.prompt.works import INPUT
from worker.context import Context
from worker.shard.run import run_shard

PROMPTS = tuple(Prompt(n, f"p{n}", "simulator/image", {**INPUT, "seed": n, "predict_time": 600}) for n in range(5))
SHARD = Shard("night", "b1", 0, 0, PROMPTS)


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1, loose=0.0)
    worker = await open_worker()
    await open_batch(worker, *PROMPTS)
    return worker


@asynccontextmanager
async def running(worker: Context) -> AsyncIterator[asyncio.Task[None]]:
    run = asyncio.create_task(run_shard(worker, SHARD))
    try:
        yield run
    finally:
        run.cancel()
        await asyncio.wait([run])


async def test_a_limit_in_flight_that_is_raised_and_lifted_holds_at_once(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    await worker.batches.change_limits("night", "b1", {"max_in_flight": 1})
    async with running(worker):
        for limit, expected in ((1, 1), (3, 3), (None, 5)):
            await worker.batches.change_limits("night", "b1", {"max_in_flight": limit})
            await eventually(lambda expected=expected: simulator.ledger()["created"] == expected)


async def test_a_new_limit_counts_what_runs_already(
    worker: Context, simulator: Any, redis: Redis, eventually: Callable[..., Any]
) -> None:
    async with running(worker):
        await eventually(lambda: simulator.ledger()["created"] == 5)
        await worker.batches.change_limits("night", "b1", {"max_in_flight": 2})

        async def are_counted() -> bool:
            return bool(await redis.zcard(keys.places("night")) == len(PROMPTS))

        await eventually(are_counted)
    assert simulator.ledger()["created"] == 5
