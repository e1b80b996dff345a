"""A shard that runs obeys what people change of its batch meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from arq.worker import RetryJob

from jobs.batch_folder.folder import Folder
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.ledger import Entry, entry_of
from jobs.state.pending import busy_shards
from jobs.wire import Batch, Failure, Prompt, Shard
from tests.integration.worker.prompt.works import INPUT
from worker.context import Context, Work
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


async def settled(worker: Context) -> tuple[int, int]:
    batch = await worker.batches.get("night")
    return batch.succeeded, batch.canceled


async def test_prompts_that_run_are_canceled_alone_and_the_others_go_on(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    async with running(worker) as run:
        await eventually(lambda: simulator.ledger()["created"] == 5)
        assert await worker.batches.cancel_prompts("night", "b1", [1, 3]) == 2

        async def are_canceled() -> bool:
            return await settled(worker) == (0, 2)

        await eventually(are_canceled)
        assert simulator.ledger()["calls"]["cancel"] == 2
        assert not run.done()
        assert await worker.batches.in_flight("night") == 3
        assert await worker.batches.to_cancel("night", 0) == set()
        folder = Folder(worker.config.output_dir, "night")
        record = folder.read_record("p1")
        assert record
        assert record.error == Failure(kind="canceled", message="canceled by hand")
        await worker.batches.cancel_prompts("night", "b1", [0, 2, 4])
        await run
    assert (await worker.batches.get("night")).finished_at
    assert simulator.ledger()["created"] == 5


async def test_prompts_that_wait_are_canceled_and_never_created(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    await worker.batches.change_limits("night", "b1", {"max_in_flight": 1})
    async with running(worker):
        await eventually(lambda: simulator.ledger()["created"] == 1)
        await worker.batches.cancel_prompts("night", "b1", [1, 2, 3, 4])

        async def are_canceled() -> bool:
            return await settled(worker) == (0, 4)

        await eventually(are_canceled)
    assert simulator.ledger()["created"] == 1


async def test_prompts_canceled_before_their_shard_runs_are_never_created(worker: Context, simulator: Any) -> None:
    assert await worker.batches.cancel_prompts("night", "b1", range(5)) == 5
    await run_shard(worker, SHARD)
    assert await settled(worker) == (0, 5)
    assert simulator.ledger()["created"] == 0
    assert (await worker.batches.get("night")).finished_at


async def test_what_succeeded_meanwhile_is_saved(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    work = Work(worker, SHARD, PROMPTS[0])
    entry = await work.ledger.intend(Entry())
    prediction = await worker.replicate.create(work.prompt.model, work.prompt.input | {"predict_time": 0.0})
    await work.ledger.record(entry, prediction.id)

    async def has_ended() -> bool:
        return (await worker.replicate.get(prediction.id)).terminal

    await eventually(has_ended)
    await worker.batches.cancel_prompts("night", "b1", range(5))
    await run_shard(worker, SHARD)
    assert await settled(worker) == (1, 4)
    assert simulator.ledger()["created"] == 1


async def test_a_create_that_is_under_way_is_recorded_before_its_prompt_is_canceled(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(late_answer={"rate": 1.0, "seconds": 1.5})
    async with running(worker) as run:
        await eventually(lambda: simulator.ledger()["created"] == 5)
        await worker.batches.cancel_prompts("night", "b1", range(5))
        await run
    assert simulator.ledger()["created"] == simulator.ledger()["calls"]["cancel"] == 5
    assert await settled(worker) == (0, 5)


async def test_a_canceled_prompt_may_be_retried(worker: Context) -> None:
    await worker.batches.cancel_prompts("night", "b1", range(5))
    await run_shard(worker, SHARD)
    async with worker.redis.pipeline(transaction=True) as pipe:
        await worker.batches.unsettle("night", 1, "canceled", pipe, "canceled")
        await pipe.execute()
    assert await worker.batches.to_cancel("night", 0) == set()


async def test_only_prompts_of_that_batch_without_a_result_are_marked(worker: Context) -> None:
    await worker.batches.settle("night", 1, "failed")
    assert await worker.batches.cancel_prompts("night", "another", [1, 2]) == 0
    assert await worker.batches.cancel_prompts("night", "b1", [1, 2]) == 1
    assert await worker.batches.to_cancel("night", 0) == {2}


@pytest.fixture
async def paused(worker: Context, simulator: Any, eventually: Callable[..., Any]) -> None:
    """Two of five prompts run when the batch is paused; what its limit holds back is not created any more."""
    await worker.batches.change_limits("night", "b1", {"max_in_flight": 2})
    async with running(worker) as run:
        await eventually(lambda: simulator.ledger()["created"] == 2)
        assert await worker.batches.pause("night", "b1", "lunch")
        await eventually(lambda: worker.waits.reason_before_create("night/p4") == "paused night")
        await worker.batches.change_limits("night", "b1", {"max_in_flight": None})
        assert not run.done(), "what runs is followed"
    assert simulator.ledger()["created"] == 2


@pytest.mark.usefixtures("paused")
async def test_what_ends_while_the_batch_is_paused_is_not_retried_and_its_slot_is_free(
    worker: Context, simulator: Any
) -> None:
    for text in (await worker.redis.hgetall(keys.ledger("night"))).values():
        prediction_id = entry_of(text).prediction_id
        assert prediction_id
        await worker.replicate.cancel(prediction_id)
    with pytest.raises(RetryJob):
        await run_shard(worker, SHARD)
    assert simulator.ledger()["created"] == 2
    assert await busy_shards(worker.redis, "night") == set()
    assert worker.job_slots.pick_jobs([b"night:0:0", b"noon:0:0"]) == [b"noon:0:0"]


@pytest.mark.usefixtures("paused")
async def test_a_paused_batch_can_be_canceled(worker: Context, simulator: Any) -> None:
    await worker.batches.request_cancel("night")
    await run_shard(worker, SHARD)
    assert await settled(worker) == (0, 5)
    assert (simulator.ledger()["created"], simulator.ledger()["calls"]["cancel"]) == (2, 2)
    assert (await worker.batches.get("night")).paused is None


@pytest.mark.usefixtures("paused")
async def test_a_new_generation_is_not_paused(worker: Context, simulator: Any, eventually: Callable[..., Any]) -> None:
    await worker.batches.reopen("night", 1)
    async with running(worker):
        await eventually(lambda: simulator.ledger()["created"] == 5)


async def test_a_create_whose_answer_was_lost_is_searched_for_though_the_batch_is_paused(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    await Work(worker, SHARD, PROMPTS[0]).ledger.intend(Entry())
    lost = await worker.replicate.create(PROMPTS[0].model, PROMPTS[0].input | {"predict_time": 600})
    await worker.batches.pause("night", "b1", "lunch")

    async def is_found() -> bool:
        return (await Work(worker, SHARD, PROMPTS[0]).ledger.read()).prediction_id == lost.id

    async with running(worker):
        await eventually(is_found)
    assert simulator.ledger()["created"] == 1


async def test_a_lost_create_that_nobody_finds_keeps_no_shard_busy(worker: Context, simulator: Any) -> None:
    worker = replace(worker, timing=replace(worker.timing, create_timeout=0.1, sure_after=0.1))
    work = Work(worker, SHARD, PROMPTS[0])
    await work.ledger.intend(Entry())
    await worker.batches.pause("night", "b1", "lunch")
    with pytest.raises(RetryJob):
        await run_shard(worker, SHARD)
    entry = await work.ledger.read()
    assert (entry.nonce, entry.unknown_creates) == ("", 1)
    assert await busy_shards(worker.redis, "night") == set()
    assert simulator.ledger()["created"] == 0
