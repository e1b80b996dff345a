from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.queue.shard_queue import Queue
from jobs.redis_client import keys
from jobs.state.ledger import Entry
from jobs.wire import Batch, Prompt, Shard
from worker.context import Context, Work, job_slots
from worker.limits.job_slots import JobSlots
from worker.shard.rescue import Rescue
from worker.timing import Timing

INPUT = {"prompt": "fox", "width": 16, "height": 16}
PROMPTS = tuple(Prompt(index, f"p{index}", "simulator/image", INPUT | {"seed": index}) for index in range(4))
SHARD = Shard("night", "b1", 0, 0, PROMPTS)
LEASE = 0.3


@pytest.fixture
def timing() -> Timing:
    return Timing(first_refusal=0.1)


@pytest.fixture
async def worker(
    simulator: Any,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
) -> Context:
    """A worker with two job slots beside a dead one's shard, which is in the queue."""
    simulator.settings(limiter="off", predict_min=0.0, predict_max=0.1, queue_max=0.0)
    worker = await open_worker(max_in_flight=2, lease=LEASE)
    assert job_slots(worker.config) == 2
    batch = await open_batch(worker, *PROMPTS)
    await Queue(worker.redis, worker.config.api_host).add(batch, [SHARD])
    return worker


@pytest.fixture
async def full(worker: Context) -> AsyncIterator[list[asyncio.Task[None]]]:
    """All job slots are taken by long shards."""

    async def long(job: str) -> None:
        await worker.job_slots.running.single_flight(job)
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(long(f"long:{number}:0")) for number in range(2)]
    yield tasks
    for task in tasks:
        task.cancel()


def work(worker: Context, index: int) -> Work:
    return Work(worker, SHARD, PROMPTS[index])


async def left_running(worker: Context, index: int, **more: Any) -> str:
    """What the dead worker created last; the id of the prediction."""
    entry = await work(worker, index).ledger.intend(Entry())
    prediction = await worker.replicate.create(PROMPTS[index].model, PROMPTS[index].input | more)
    await work(worker, index).ledger.record(entry, prediction.id)
    return prediction.id


async def released(worker: Context) -> bool:
    marks = [keys.lease("night:0"), keys.ARQ_IN_PROGRESS + SHARD.job_id]
    return not await worker.redis.exists(*marks)


@pytest.mark.usefixtures("full")
async def test_what_a_dead_worker_left_running_is_saved_though_every_slot_is_taken(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    made = [await left_running(worker, index) for index in range(2)]
    await work(worker, 2).ledger.intend(Entry())
    lost = await worker.replicate.create(PROMPTS[2].model, PROMPTS[2].input)
    async with worker.in_flight.turn(0), worker.in_flight.turn(0):  # none in flight is free either
        await eventually(lambda: worker.redis.getbit(keys.settled("night"), 2))
        await eventually(lambda: worker.redis.getbit(keys.settled("night"), 1))
        await eventually(lambda: worker.redis.getbit(keys.settled("night"), 0))
    records = [work(worker, index).folder.read_record(f"p{index}") for index in range(3)]
    assert [record and record.prediction_id for record in records] == [*made, lost.id]
    await eventually(lambda: released(worker))
    assert simulator.ledger()["created"] == 3
    assert 3 not in await worker.batches.settled("night")
    assert await Queue(worker.redis, worker.config.api_host).jobs("night") == [SHARD.job_id]
    assert not await worker.redis.exists(keys.runs("night"))


@pytest.mark.usefixtures("full")
async def test_an_attempt_that_failed_is_closed_and_the_next_one_left_to_the_run(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(failed={"rate": 1.0})
    made = await left_running(worker, 0)

    async def closed() -> bool:
        entry = await work(worker, 0).ledger.read()
        return entry.attempt == 1 and entry.nonce == "" and entry.prediction_ids == (made,)

    await eventually(closed)
    await eventually(lambda: released(worker))
    assert simulator.ledger()["created"] == 1


async def test_a_worker_with_a_free_slot_leaves_it_to_arq(
    worker: Context,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "worker.shard.rescue")
    looks = []

    def is_full(slots: JobSlots) -> bool:
        looks.append(len(slots.running))
        return len(slots.running) >= slots.size

    await left_running(worker, 0)
    monkeypatch.setattr(JobSlots, "is_full", property(is_full))
    await eventually(lambda: len(looks) > 4)  # each look follows what the one before led to
    assert "open predictions are followed" not in caplog.text
    assert 0 not in await worker.batches.settled("night")


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("key", [keys.lease("night:0"), keys.ARQ_IN_PROGRESS + SHARD.job_id])
async def test_what_somebody_holds_is_left_alone(worker: Context, key: str) -> None:
    await worker.redis.set(key, "somebody else")
    await left_running(worker, 0)
    await Rescue(worker).search()
    assert 0 not in await worker.batches.settled("night")
    assert await worker.redis.get(key) == b"somebody else"


async def test_a_slot_that_stays_free_ends_the_rescue_for_the_shards_own_run(
    worker: Context, full: list[asyncio.Task[None]], eventually: Callable[..., Any]
) -> None:
    await left_running(worker, 0, predict_time=600)
    await eventually(lambda: worker.redis.exists(keys.lease("night:0")))
    full[0].cancel()
    await eventually(lambda: released(worker))
    assert (await work(worker, 0).ledger.read()).prediction_id


@pytest.mark.usefixtures("full")
async def test_of_a_canceled_batch_what_runs_is_canceled(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    await left_running(worker, 0, predict_time=600)
    await worker.batches.request_cancel("night")
    await eventually(lambda: worker.redis.getbit(keys.settled("night"), 0))
    assert simulator.ledger()["statuses"] == {"canceled": 1}


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("trouble", ["dead", "tampered", "deleted"])
async def test_a_shard_that_cannot_be_run_is_not_rescued(
    worker: Context, trouble: str, eventually: Callable[..., Any]
) -> None:
    await left_running(worker, 0)
    if trouble == "dead":
        await DeadLetters(worker.redis).move_to_dead_letters(JobId.parse(SHARD.job_id), "because")
    elif trouble == "tampered":
        await worker.redis.set(keys.ARQ_JOB + SHARD.job_id, b"tampered")
    else:
        await worker.batches.delete("night")
    await Rescue(worker).search()
    await eventually(lambda: released(worker))
    assert 0 not in await worker.batches.settled("night")
