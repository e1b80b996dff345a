"""A permit leaves nothing behind, whichever way it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from jobs.config import Config
from jobs.errors import OverBudget
from jobs.model_limits import ModelLimits
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.ledger import Entry, Overtaken
from jobs.wire import Batch
from tests.integration.worker.prompt import works
from worker.context import Context, Work
from worker.leases import lease_name
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.prompt.admission import attached, permit
from worker.prompt.create import Created, Postponed, Refused, create

MODEL = "simulator/image"
work = partial(works.work, limited=True)


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    """One slot of each kind: what one permit does not release, the next one waits for."""
    simulator.settings(limiter="off", predict_min=60.0, predict_max=60.0)
    limits = ModelLimits.parse(f"{MODEL}=max 1")
    worker = await open_worker(model_limits=limits, breaker_refusals=1)
    await open_batch(worker, total=10)
    await worker.batches.set_budget("night", None, None, 1)
    return replace(worker, in_flight=PrioritySemaphore(1), connections=PrioritySemaphore(1))


async def counted(redis: Redis, config: Config) -> tuple[int, int]:
    """What Redis counts as in flight: of the batch, and of the model."""
    return (
        await redis.zcard(keys.places("night")),
        await redis.zcard(keys.model_in_flight(config.api_host, MODEL)),
    )


async def another_gets_all(worker: Context) -> None:
    """Prompt 9 is created and ends: it got every slot, queue and count."""
    other = work(worker, 9)
    async with asyncio.timeout(20), permit(other, Entry()) as granted:
        assert isinstance(await create(other, granted), Created)


async def stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def hold(one: Work, entered: asyncio.Event, *, creates: bool = False) -> None:
    async with permit(one, Entry()) as granted:
        if creates:
            await create(one, granted)
        entered.set()
        await asyncio.Event().wait()


async def test_while_it_is_held_others_wait(worker: Context, redis: Redis, eventually: Callable[..., Any]) -> None:
    async with permit(work(worker), Entry()) as granted:
        await create(work(worker), granted)
        assert await counted(redis, worker.config) == (1, 1)
        waiting = asyncio.create_task(another_gets_all(worker))
        await eventually(lambda: worker.waits.reason_before_create("night/p9") == "batch limit night")
        assert not waiting.done()
    await waiting
    assert await counted(redis, worker.config) == (0, 0)


async def test_refused(worker: Context, redis: Redis) -> None:
    """The model's rows go one at a time after the first refusal: this one leaves that queue, too."""
    for index in range(3):
        bad = work(worker, index, num_outputs=9)
        async with asyncio.timeout(20), permit(bad, Entry()) as granted:
            outcome = await create(bad, granted)
            assert isinstance(outcome, Refused)
            await worker.refused_rows.note_refused(bad.shard, MODEL, outcome.error)
        assert await counted(redis, worker.config) == (0, 0)
    await another_gets_all(worker)


async def test_postponed_by_the_models_limit(worker: Context, redis: Redis) -> None:
    await worker.model_limiter.start(MODEL, "night/p5")
    async with permit(work(worker), Entry()) as granted:
        assert isinstance(await create(work(worker), granted), Postponed)
    assert await counted(redis, worker.config) == (0, 1)
    await worker.model_limiter.release(MODEL, "night/p5")
    await another_gets_all(worker)


async def test_postponed_by_the_batchs_limit(worker: Context, redis: Redis) -> None:
    async with permit(work(worker), Entry()) as granted:
        await worker.batch_limiter.release(work(worker).shard, 0)  # its time is over, say
        assert await worker.batch_limiter.try_acquire(work(worker).shard, 5)
        assert isinstance(await create(work(worker), granted), Postponed)
    assert await counted(redis, worker.config) == (1, 0)
    await worker.batch_limiter.release(work(worker).shard, 5)
    await another_gets_all(worker)


async def test_postponed_by_the_models_breaker(worker: Context, redis: Redis) -> None:
    async with permit(work(worker), Entry()) as granted:
        for _ in range(30):
            await worker.breaker.record_outcome(MODEL, "night/p5", "failed", "broken")
        assert isinstance(await create(work(worker), granted), Postponed)
    assert await counted(redis, worker.config) == (0, 0)


async def test_over_budget(worker: Context, redis: Redis) -> None:
    await worker.batches.set_budget("night", 0, None, 1)
    async with permit(work(worker), Entry()) as granted:
        assert isinstance(await create(work(worker), granted), Postponed)
    with pytest.raises(OverBudget):
        async with permit(work(worker), Entry()):
            pytest.fail("there is nothing to spend")
    assert await counted(redis, worker.config) == (0, 0)
    await worker.batches.set_budget("night", 10, None, 1)
    await another_gets_all(worker)


@pytest.mark.parametrize("blocked", ["folder", "batch", "model", "in flight", "connection", "start time"])
async def test_cancelled_while_it_waits(
    worker: Context, redis: Redis, eventually: Callable[..., Any], blocked: str
) -> None:
    """What it waits for is taken by prompt 5; what it holds by then is free again, and nothing was created."""
    five = work(worker, 5)
    if blocked == "folder":
        worker.folders.failed(five.folder.path, "it is gone", alone=True)
    elif blocked == "batch":
        assert await worker.batch_limiter.try_acquire(five.shard, 5)
    elif blocked == "model":
        await worker.model_limiter.acquire(MODEL, five.name, 0.0)
    elif blocked == "in flight":
        await worker.in_flight.acquire(0.0)
    elif blocked == "connection":
        await worker.connections.acquire(0.0)
    else:
        await worker.account.pause("not now")
    waiting = asyncio.create_task(hold(work(worker), asyncio.Event(), creates=True))
    await eventually(lambda: is_waiting(worker, blocked))
    await stop(waiting)
    assert await counted(redis, worker.config) == ((1, 0) if blocked == "batch" else (0, 0))
    assert worker.in_flight.waiting == worker.connections.waiting == 0
    assert worker.in_flight.free == (blocked != "in flight")
    assert worker.connections.free == (blocked != "connection")
    if blocked in ("batch", "model", "in flight", "connection", "start time"):
        await free(worker, five, blocked)
        await another_gets_all(worker)


def is_waiting(worker: Context, blocked: str) -> bool:
    if blocked == "in flight":
        return worker.in_flight.waiting == 1
    if blocked == "connection":
        return worker.connections.waiting == 1
    if blocked == "start time":
        return worker.connections.free == 0
    kinds = {"folder": "folder", "batch": "batch limit", "model": "model limit"}
    return worker.waits.reason_before_create("night/p0").startswith(kinds[blocked])


async def free(worker: Context, five: Work, blocked: str) -> None:
    if blocked == "batch":
        await worker.batch_limiter.release(five.shard, 5)
    elif blocked == "model":
        worker.model_limiter.leave(MODEL, five.name)
    elif blocked == "in flight":
        worker.in_flight.release()
    elif blocked == "connection":
        worker.connections.release()
    else:
        await worker.account.resume()


async def test_cancelled_while_its_prediction_runs(worker: Context, redis: Redis) -> None:
    """The prediction runs on, so Redis still counts it; this process holds nothing, and who attaches releases it."""
    entered = asyncio.Event()
    running = asyncio.create_task(hold(work(worker), entered, creates=True))
    await entered.wait()
    await stop(running)
    assert await counted(redis, worker.config) == (1, 1)
    assert (worker.in_flight.free, worker.connections.free) == (1, 1)
    async with attached(work(worker)):
        assert await counted(redis, worker.config) == (1, 1)
    assert await counted(redis, worker.config) == (0, 0)
    await another_gets_all(worker)


async def test_cancelled_in_the_middle_of_its_create(
    worker: Context, simulator: Any, redis: Redis, eventually: Callable[..., Any]
) -> None:
    simulator.control(delay={"next": 1, "kinds": ["create"], "seconds": 1.0})
    creating = asyncio.create_task(hold(work(worker), asyncio.Event(), creates=True))
    await eventually(lambda: redis.hlen(keys.ledger("night")))
    await stop(creating)
    assert (await work(worker).ledger.read()).prediction_id, "a create under way ends"
    assert await counted(redis, worker.config) == (1, 1)


async def test_cancelled_while_it_waits_again_after_a_429(
    worker: Context, simulator: Any, redis: Redis, eventually: Callable[..., Any]
) -> None:
    simulator.control(throttle={"next": 1, "kinds": ["create"], "seconds": 600, "form": "header"})
    waiting = asyncio.create_task(hold(work(worker), asyncio.Event(), creates=True))
    await eventually(lambda: simulator.ledger(summary=True)["calls"].get("create"))
    await eventually(lambda: withdrawn(work(worker)))
    await eventually(lambda: worker.connections.free == 0)
    await stop(waiting)
    assert await counted(redis, worker.config) == (0, 0)


async def withdrawn(one: Work) -> bool:
    return not (await one.ledger.read()).nonce


async def test_a_worker_that_stalled_past_its_lease(worker: Context, redis: Redis) -> None:
    """Another one may have the prompt: nothing is created, and its count in Redis is left to that one."""
    one = work(worker)
    await redis.zadd(keys.queue(worker.config.api_host), {one.shard.job_id: 1})
    lease = await worker.leases.acquire(lease_name(one.shard.job_id), one.shard.job_id)
    assert lease
    lease.lost = True
    with pytest.raises(Overtaken):
        await asyncio.wait_for(hold(one, asyncio.Event(), creates=True), 20)
    assert (await counted(redis, worker.config))[1] == 1
    assert not (await one.ledger.read()).nonce
    assert (worker.in_flight.free, worker.connections.free) == (1, 1)


async def test_attached_ends_by_an_error(worker: Context, redis: Redis) -> None:
    with pytest.raises(ConnectionError):
        async with attached(work(worker)):
            raise ConnectionError
    assert await counted(redis, worker.config) == (1, 0)
