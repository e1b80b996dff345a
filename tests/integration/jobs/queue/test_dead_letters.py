from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jobs.budget import UNCHANGED
from jobs.cli.progress import follow, json_screen
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt
from jobs.model_limits import ModelLimits
from jobs.operations.operations import Operations
from jobs.operations.report import notes, receipt_lines
from jobs.queue.dead_letters import MOST_DEATHS, REASON, DeadLetters
from jobs.queue.payload import JobId, Parcel
from jobs.queue.shard_queue import Queue
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Shard
from worker.context import Context
from worker.lifecycle import open_context
from worker.limits.model_limiter import ModelBusy, ModelLimiter
from worker.shard.run import predict_shard, run_job

JOB = JobId("night", 1, 0)


@pytest.fixture
async def letters(redis: Redis) -> DeadLetters:
    await Batches(redis).open(Batch("night", "b1", "api", 1.0, 150, 0, 1.0))
    return DeadLetters(redis)


async def dies(letters: DeadLetters, times: int, job: JobId = JOB) -> str:
    """Begin runs that never end, and one more; returns why the shard is a dead letter."""
    for number in range(times):
        assert await letters.begin(job, f"run {number}") == ""
    return await letters.begin(job, "the next")


async def test_a_shard_whose_runs_died_too_often_is_set_aside(letters: DeadLetters) -> None:
    assert await dies(letters, MOST_DEATHS) == REASON
    assert await letters.of("night") == {"night:1:0": REASON}
    assert await letters.begin(JOB, "another") == REASON


async def test_it_takes_that_many_deaths(letters: DeadLetters) -> None:
    assert await dies(letters, MOST_DEATHS - 1) == ""
    assert await letters.of("night") == {}


async def test_a_call_that_is_repeated_counts_once(letters: DeadLetters) -> None:
    for number in range(MOST_DEATHS):
        assert [await letters.begin(JOB, f"run {number}") for _ in range(3)] == ["", "", ""]
    await letters.record_crash(JOB, "run 2")
    await letters.record_crash(JOB, "run 2")
    assert await letters.begin(JOB, "run 2") == REASON


async def test_who_settled_a_prompt_has_not_died_in_vain(letters: DeadLetters, redis: Redis) -> None:
    assert await dies(letters, MOST_DEATHS - 1) == ""
    await Batches(redis).settle("night", 99, "succeeded")  # another shard's
    await Batches(redis).settle("night", 100, "failed")
    assert await dies(letters, MOST_DEATHS - 1) == ""
    assert await letters.begin(JOB, "last") == REASON


async def test_a_run_that_ended_in_order_has_not_died(letters: DeadLetters, redis: Redis) -> None:
    for _ in range(MOST_DEATHS + 1):
        assert await letters.begin(JOB, "mine") == ""
        await letters.end(JOB, "mine", over=False)
        assert not await redis.exists(keys.runs("night"))


async def test_an_orderly_end_between_does_not_bring_the_dead_back(letters: DeadLetters, redis: Redis) -> None:
    assert await dies(letters, MOST_DEATHS - 1) == ""
    await letters.end(JOB, "the next", over=False)
    assert await letters.begin(JOB, "mine") == ""
    assert await letters.begin(JOB, "last") == REASON
    await letters.requeue("night", ["night:1:0"])
    assert await dies(letters, MOST_DEATHS - 1) == ""
    await letters.end(JOB, "the next", over=True)
    assert not await redis.exists(keys.runs("night"))


async def test_a_stalled_run_that_ends_late_was_no_death(letters: DeadLetters) -> None:
    assert await dies(letters, MOST_DEATHS - 1) == ""
    await letters.end(JOB, f"run {MOST_DEATHS - 2}", over=False)
    await letters.end(JOB, f"run {MOST_DEATHS - 2}", over=False)
    assert await letters.begin(JOB, "one more") == ""
    assert await letters.begin(JOB, "and more") == REASON


async def test_a_shard_that_has_nothing_left_but_to_finish_its_batch_is_not_set_aside(
    letters: DeadLetters, redis: Redis
) -> None:
    assert await letters.begin(JOB, "first") == ""
    for index in range(100, 150):
        await Batches(redis).settle("night", index, "succeeded")
    assert await dies(letters, MOST_DEATHS + 2) == ""


async def test_a_batch_that_is_gone_has_no_dead_letters(letters: DeadLetters, redis: Redis) -> None:
    await letters.move_to_dead_letters(JOB, "because")
    await Batches(redis).delete("night")
    assert await dies(letters, MOST_DEATHS) == ""
    await letters.move_to_dead_letters(JOB, "because")
    assert not await redis.exists(keys.runs("night"))


async def test_notes_of_runs_do_not_stay_for_ever(letters: DeadLetters, redis: Redis) -> None:
    await letters.begin(JOB, "mine")
    assert 29 * 86_400 < await redis.ttl(keys.runs("night")) <= 30 * 86_400


class TestNight:
    """A batch of two shards, from its prompts file."""

    @pytest.fixture
    async def worker(self, config: Config, simulator: Any, redis: Redis) -> AsyncIterator[Context]:
        simulator.settings(limiter="off", predict_min=0.0, predict_max=0.0, queue_max=0.0)
        settings = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1}
        async with open_context(config.model_copy(update=settings)) as worker:
            await self.enqueue(Operations(config, redis))
            yield worker

    @pytest.fixture
    def desk(self, config: Config, redis: Redis) -> Operations:
        return Operations(config, redis)

    async def enqueue(self, desk: Operations) -> Receipt:
        file = desk.config.output_dir.parent / "night.jsonl"
        file.write_text('{"model": "simulator/text", "prompt": "fox"}\n' * 102)
        return await desk.enqueue(Order(str(file)))

    async def run(self, worker: Context, job_id: str, payload: bytes | None = None) -> None:
        """What arq does with a job that is at the queue's head."""
        payload = payload or await Queue(worker.redis, worker.config.api_host).payload(job_id)
        assert payload
        context: dict[str, Any] = {"worker": worker, "job_id": job_id, "job_try": 1, "lease": None}
        await predict_shard(context, Parcel(payload))
        await worker.redis.zrem(keys.queue(worker.config.api_host), job_id)
        await worker.leases.release(context["lease"])

    async def test_a_tampered_payload_sets_its_shard_aside_until_retry(
        self, worker: Context, desk: Operations, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.run(worker, "night:1:0", pickle.dumps("tampered"))
        assert "night:1:0 is a dead letter: its payload in Redis is damaged" in caplog.text
        await self.run(worker, "night:0:0")
        status = await desk.status("night")
        assert (status.dead_letters, status.stuck, status.succeeded, status.failed) == (["night:1:0"], True, 100, 0)
        assert status.reason
        assert "prompts 101 to 102 are a dead letter: its payload in Redis is damaged" in status.reason
        assert any("`python -m jobs retry night`" in note for note in notes([status]))

        receipt = await self.enqueue(desk)
        assert (receipt.enqueued, receipt.dead_letters) == (0, ["night:1:0"])
        assert any("Dead letters: 1 shard" in line for line in receipt_lines(receipt))
        receipt = await desk.retry("night", UNCHANGED)
        assert (receipt.enqueued, receipt.shards, receipt.dead_letters) == (2, 1, [])
        await self.run(worker, "night:1:1")
        status = await desk.status("night")
        assert (status.state, status.dead_letters, status.succeeded) == ("finished", [], 102)

    async def test_a_shard_of_dead_runs_is_not_run_again(
        self, worker: Context, desk: Operations, simulator: Any
    ) -> None:
        assert await dies(DeadLetters(worker.redis), MOST_DEATHS) == REASON
        await self.run(worker, "night:1:0")
        assert simulator.ledger()["created"] == 0
        assert (await desk.status("night")).dead_letters == ["night:1:0"]

    async def test_a_shard_that_is_set_aside_lets_go_of_what_it_held(self, worker: Context, redis: Redis) -> None:
        limits = ModelLimits.parse("simulator/text=max 2")
        turns = ModelLimiter(redis, worker.config.model_copy(update={"model_limits": limits}))
        await worker.batches.set_budget("night", None, None, 2)
        shard = Shard("night", (await worker.batches.get("night")).id, 1, 0, ())
        for name, index in (("night/000101", 100), ("night/000102", 101)):
            await turns.start("simulator/text", name)
            await worker.batch_limiter.try_acquire(shard, index)
        with pytest.raises(ModelBusy):
            await turns.start("simulator/text", "night/000001")
        assert await dies(DeadLetters(redis), MOST_DEATHS) == REASON
        await self.run(worker, "night:1:0")
        await turns.start("simulator/text", "night/000001")
        assert await worker.batch_limiter.try_acquire(shard, 0)

    async def test_an_error_that_nobody_foresaw_counts_as_a_death(self, worker: Context) -> None:
        payload = await Queue(worker.redis, worker.config.api_host).payload("night:1:0")
        assert payload
        await worker.redis.execute_command("HSET", keys.batch("night"), "id", b"\xff")
        for _ in range(MOST_DEATHS):
            with pytest.raises(UnicodeDecodeError):
                await run_job(worker, "night:1:0", Parcel(payload))
        await run_job(worker, "night:1:0", Parcel(payload))
        assert await DeadLetters(worker.redis).of("night") == {"night:1:0": REASON}

    async def test_a_run_that_is_stopped_has_not_died(
        self, worker: Context, simulator: Any, eventually: Callable[..., Any]
    ) -> None:
        simulator.settings(predict_min=60.0, predict_max=60.0)
        payload = await Queue(worker.redis, worker.config.api_host).payload("night:1:0")
        assert payload
        running = asyncio.create_task(run_job(worker, "night:1:0", Parcel(payload)))
        await eventually(lambda: simulator.ledger()["created"] == 2)
        assert await worker.redis.exists(keys.runs("night"))
        running.cancel()
        await asyncio.wait([running])
        assert not await worker.redis.exists(keys.runs("night"))

    async def test_a_cancel_brings_back_what_is_set_aside_so_that_it_is_canceled(
        self, worker: Context, desk: Operations
    ) -> None:
        await self.run(worker, "night:1:0", b"tampered")
        assert (await desk.cancel("night")).dead_letters == []
        assert await Queue(worker.redis, worker.config.api_host).jobs("night") == ["night:0:0", "night:1:1"]
        await self.run(worker, "night:0:0")
        await self.run(worker, "night:1:1")
        status = await desk.status("night")
        assert (status.state, status.canceled) == ("canceled", 102)

    async def test_deleting_a_batch_forgets_its_dead_letters(self, worker: Context, desk: Operations) -> None:
        await self.run(worker, "night:1:0", b"tampered")
        await desk.delete("night", force=True)
        assert not await worker.redis.exists(keys.runs("night"))

    async def test_following_a_batch_ends_when_all_that_is_left_is_set_aside(
        self, worker: Context, desk: Operations
    ) -> None:
        await self.run(worker, "night:1:0", b"tampered")
        assert not (await desk.status("night")).stuck
        await worker.redis.zrem(keys.queue(worker.config.api_host), "night:0:0")
        assert (await follow(lambda: desk.status("night"), json_screen())).stuck

    async def test_a_job_id_that_is_none_of_ours_is_dropped(
        self, worker: Context, caplog: pytest.LogCaptureFixture
    ) -> None:
        await run_job(worker, "../../etc:0:0", Parcel(b""))
        assert "dropped from the queue" in caplog.text
        assert not await worker.redis.keys("*runs:*")
