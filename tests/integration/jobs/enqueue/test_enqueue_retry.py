from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.config import Config
from jobs.enqueue import retry as retry_module
from jobs.enqueue.enqueue import Order, Receipt, enqueue, retry
from jobs.errors import BatchNotFound, InputError
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.queue.shard_queue import Queue
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits
from jobs.wire import Batch, Outcome
from tests.integration.jobs.enqueue.night import API_HOST, crashing, queued, settle, write


@pytest.fixture
async def source(tmp_path: Path, config: Config, redis: Redis) -> str:
    """250 prompts, enqueued."""
    path = write(tmp_path / "night.jsonl", 250)
    await enqueue(Order(path), config, redis)
    return path


async def finish(redis: Redis, folder: Folder, unsuccessful: dict[int, Outcome]) -> None:
    """All prompts but these succeed, and the workers have emptied the queue."""
    await settle(redis, folder, unsuccessful)
    for index in range(250):
        await Batches(redis).settle("night", index, "succeeded")
    await Queue(redis, API_HOST).remove("night")
    assert await Batches(redis).finish("night")


async def queued_ids(redis: Redis) -> dict[str, list[str]]:
    return {job: [prompt.id for prompt in shard.prompts] for job, shard in (await queued(redis)).items()}


def append(path: Path, row: dict[str, Any]) -> None:
    path.write_text(path.read_text() + json.dumps(row) + "\n")


def counts(batch: Batch) -> tuple[int, int, int]:
    return batch.succeeded, batch.failed, batch.canceled


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_what_did_not_succeed_is_enqueued_as_the_next_generation(
    source: str, config: Config, redis: Redis, folder: Folder
) -> None:
    await finish(redis, folder, {3: "failed", 99: "canceled", 201: "failed"})
    receipt = await retry("night", config, redis)
    assert receipt == Receipt(batch="night", total=250, enqueued=3, already_done=247, shards=2, workers=0)
    assert await queued_ids(redis) == {"night:0:1": ["p3", "p99"], "night:2:1": ["p201"]}
    batch = await Batches(redis).get("night")
    assert (counts(batch), batch.generation, batch.finished_at) == ((247, 0, 0), 1, None)
    assert await redis.ttl(keys.batch("night")) == -1
    assert (await Batches(redis).unsuccessful("night")).count(range(250)) == 0
    assert [row.index for row in read_copy(folder) if row.generation == 1] == [3, 99, 201]
    assert folder.read_record("p3") is None
    assert names(folder.path / ".retried") == ["p201.0", "p3.0", "p99.0"]
    assert source


@pytest.mark.usefixtures("source")
async def test_enqueuing_after_a_retry_adds_nothing(source: str, config: Config, redis: Redis, folder: Folder) -> None:
    await finish(redis, folder, {3: "failed"})
    await retry("night", config, redis)
    receipt = await enqueue(Order(source), config, redis)
    assert (receipt.enqueued, receipt.already_done, receipt.shards) == (0, 249, 0)
    assert await queued_ids(redis) == {"night:0:1": ["p3"]}


@pytest.mark.usefixtures("source")
async def test_retry_after_retry_keeps_every_record(config: Config, redis: Redis, folder: Folder) -> None:
    await finish(redis, folder, {3: "failed", 4: "failed"})
    for generation in (1, 2):
        await retry("night", config, redis)
        await Queue(redis, API_HOST).remove("night")
        await settle(redis, folder, {3: "failed"})
        if generation == 1:
            await settle(redis, folder, {4: "succeeded"})
    assert names(folder.path / ".retried") == ["p3.0", "p3.1", "p4.0"]
    assert counts(await Batches(redis).get("night")) == (249, 1, 0)
    await retry("night", config, redis)
    assert await queued_ids(redis) == {"night:0:3": ["p3"]}


@pytest.mark.usefixtures("source")
async def test_while_a_batch_runs_its_failed_prompts_may_be_retried(
    config: Config, redis: Redis, folder: Folder
) -> None:
    await settle(redis, folder, {3: "failed", 5: "succeeded"})
    receipt = await retry("night", config, redis)
    assert (receipt.enqueued, receipt.already_done, receipt.shards) == (1, 1, 1)
    assert list(await queued_ids(redis)) == ["night:0:0", "night:1:0", "night:2:0", "night:0:1"]
    assert counts(await Batches(redis).get("night")) == (1, 0, 0)


@pytest.mark.usefixtures("source")
async def test_a_canceled_batch_goes_on(config: Config, redis: Redis, folder: Folder) -> None:
    await settle(redis, folder, {0: "canceled", 1: "succeeded"})
    await Batches(redis).request_cancel("night")
    await Queue(redis, API_HOST).remove("night")
    receipt = await retry("night", config, redis)
    assert (receipt.enqueued, receipt.already_done) == (249, 1)
    batch = await Batches(redis).get("night")
    assert (batch.cancel_requested, counts(batch)) == (False, (1, 0, 0))


@pytest.mark.usefixtures("source")
async def test_a_batch_that_succeeded_stays_finished(config: Config, redis: Redis, folder: Folder) -> None:
    await finish(redis, folder, {})
    receipt = await retry("night", config, redis)
    assert receipt == Receipt(batch="night", total=250, enqueued=0, already_done=250, shards=0, workers=0)
    assert (await Batches(redis).get("night")).finished_at is not None


async def test_an_unknown_batch_is_not_found(config: Config, redis: Redis) -> None:
    with pytest.raises(BatchNotFound):
        await retry("night", config, redis)
    assert not config.output_dir.exists()


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("kept", [True, False])
async def test_counters_stay_right_when_records_were_removed(
    config: Config,
    redis: Redis,
    folder: Folder,
    *,
    kept: bool,
) -> None:
    await finish(redis, folder, {3: "failed", 4: "canceled", 150: "failed", 151: "canceled"})
    for index in (3, 151):
        (folder.prompt(f"p{index}") / "prediction.json").write_text("{")
    if not kept:
        for index in (4, 150):
            (folder.prompt(f"p{index}") / "prediction.json").unlink()
            folder.prompt(f"p{index}").rmdir()
    await retry("night", config, redis)
    assert counts(await Batches(redis).get("night")) == (246, 0, 0)


STEPS = ["kept_line", "requeue", "_take_back", "enqueue_unsettled"]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("calls", [0, 1])
async def test_the_same_command_completes_what_a_crash_left(
    config: Config, redis: Redis, folder: Folder, step: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finish(redis, folder, {3: "failed", 150: "canceled", 151: "failed"})
    with monkeypatch.context() as patch:
        patch.setattr(retry_module, step, crashing(getattr(retry_module, step), calls))
        if calls and step in ("requeue", "enqueue_unsettled"):  # called once only
            await retry("night", config, redis)
        else:
            with pytest.raises(RuntimeError, match="crash"):
                await retry("night", config, redis)
    await retry("night", config, redis)
    waiting = await queued_ids(redis)
    assert sorted(prompt for prompts in waiting.values() for prompt in prompts) == ["p150", "p151", "p3"]
    assert counts(await Batches(redis).get("night")) == (247, 0, 0)
    assert names(folder.path / ".retried") == ["p150.0", "p151.0", "p3.0"]
    assert [row.index for row in read_copy(folder)] == list(range(250))


@pytest.mark.usefixtures("source")
async def test_an_appended_row_never_shares_a_shards_job_with_a_retried_one(
    config: Config, redis: Redis, folder: Folder, source: str
) -> None:
    await finish(redis, folder, {249: "failed"})
    await retry("night", config, redis)
    append(Path(source), {"id": "new", "prompt": "x"})
    await enqueue(Order(source), config, redis)
    assert await queued_ids(redis) == {"night:2:1": ["p249"], "night:2:2": ["new"]}


@pytest.mark.usefixtures("source")
async def test_only_the_selected_prompts_are_retried(config: Config, redis: Redis, folder: Folder) -> None:
    await finish(redis, folder, {3: "failed", 99: "canceled", 201: "failed"})
    receipt = await retry("night", config, redis, only=Bits.of([3, 7, 201]))
    assert receipt == Receipt(batch="night", total=250, enqueued=2, already_done=248, shards=2, workers=0)
    assert await queued_ids(redis) == {"night:0:1": ["p3"], "night:2:1": ["p201"]}
    batch = await Batches(redis).get("night")
    assert (counts(batch), batch.generation, batch.finished_at) == ((247, 0, 1), 1, None)
    assert (await Batches(redis).unsuccessful("night")).count(range(250)) == 1
    assert [row.index for row in read_copy(folder) if row.generation == 1] == [3, 201]
    assert names(folder.path / ".retried") == ["p201.0", "p3.0"]
    assert folder.read_record("p99") is not None
    await retry("night", config, redis)
    assert await queued_ids(redis) == {"night:0:1": ["p3"], "night:2:1": ["p201"], "night:0:2": ["p99"]}


@pytest.mark.usefixtures("source")
async def test_nothing_selected_changes_nothing(config: Config, redis: Redis, folder: Folder) -> None:
    await finish(redis, folder, {3: "failed"})
    receipt = await retry("night", config, redis, only=Bits.of([7]))
    assert (receipt.enqueued, receipt.already_done) == (0, 250)
    batch = await Batches(redis).get("night")
    assert (counts(batch), batch.generation, batch.finished_at is None) == ((249, 1, 0), 0, False)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("step", STEPS)
async def test_a_retry_of_others_completes_what_a_crash_left(
    config: Config, redis: Redis, folder: Folder, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finish(redis, folder, {3: "failed", 150: "canceled", 151: "failed"})
    with monkeypatch.context() as patch:
        patch.setattr(retry_module, step, crashing(getattr(retry_module, step), 0))
        with pytest.raises(RuntimeError, match="crash"):
            await retry("night", config, redis, only=Bits.of([3]))
    await retry("night", config, redis, only=Bits.of([151]))
    waiting = await queued_ids(redis)
    assert sorted(prompt for prompts in waiting.values() for prompt in prompts) == ["p151", "p3"]
    assert counts(await Batches(redis).get("night")) == (247, 0, 1)


@pytest.mark.usefixtures("source")
async def test_a_selection_brings_back_only_the_dead_letters_of_its_prompts(
    config: Config, redis: Redis, folder: Folder
) -> None:
    await settle(redis, folder, {0: "succeeded"})
    for number in (0, 1):
        await DeadLetters(redis).move_to_dead_letters(JobId("night", number, 0), "it died")
    await Queue(redis, API_HOST).remove("night")
    await retry("night", config, redis, only=Bits.of([0, 150]))
    assert list(await DeadLetters(redis).of("night")) == ["night:0:0"]
    assert sorted(await queued_ids(redis)) == ["night:1:1", "night:2:0"]


@pytest.mark.usefixtures("source")
async def test_prompts_of_a_batch_that_is_being_canceled_are_not_retried_apart(
    config: Config, redis: Redis, folder: Folder
) -> None:
    await settle(redis, folder, {3: "failed"})
    await Batches(redis).request_cancel("night")
    with pytest.raises(InputError, match="is being canceled"):
        await retry("night", config, redis, only=Bits.of([3]))
    assert (await Batches(redis).get("night")).cancel_requested
