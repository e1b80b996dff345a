"""A corrected file takes the place of rows that did not succeed, and of no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.budget import Budget
from jobs.config import Config
from jobs.enqueue import enqueue as enqueue_module
from jobs.enqueue import retry as retry_module
from jobs.enqueue.enqueue import Order, enqueue, retry
from jobs.errors import InputError, PromptsError
from jobs.queue.shard_queue import Queue
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Outcome
from tests.integration.jobs.enqueue import night
from tests.integration.jobs.enqueue.night import API_HOST, crashing, queued, settle

STEPS = [
    (retry_module, "_move_record"),
    (retry_module, "kept_line"),
    (enqueue_module, "_append"),
    (enqueue_module, "_open"),
    (enqueue_module, "requeue"),
    (retry_module, "_take_back"),
    (enqueue_module, "enqueue_unsettled"),
]
OUTCOMES: dict[int, Outcome] = {0: "succeeded", 1: "failed", 2: "canceled", 150: "failed"}


def write(tmp_path: Path, wrong: tuple[int, ...] = (), rows: int = 151, **corrected: Any) -> str:
    other = dict.fromkeys(wrong, corrected)
    given = [{"id": f"p{n}", "prompt": f"fox {n}", **other.get(n, {})} for n in range(rows)]
    return night.write(tmp_path / "night.jsonl", given)


@pytest.fixture
async def finished(tmp_path: Path, config: Config, redis: Redis, folder: Folder) -> None:
    """151 prompts, of which three did not succeed."""
    await enqueue(Order(write(tmp_path)), config, redis)
    await settle(redis, folder, {index: OUTCOMES.get(index, "succeeded") for index in range(151)})
    await Queue(redis, API_HOST).remove("night")
    assert await Batches(redis).finish("night")


def kept(folder: Folder) -> list[str]:
    return [f"{prompt.id}:{prompt.model}:{prompt.generation}" for prompt in read_copy(folder)]


@pytest.mark.usefixtures("finished")
async def test_a_refusal_names_both_ways_out(tmp_path: Path, config: Config, redis: Redis, folder: Folder) -> None:
    before = folder.prompts.read_bytes()
    with pytest.raises(PromptsError, match=r"'p1' already, .*the file another --name, or add --replace"):
        await enqueue(Order(write(tmp_path, (1,), model="o/right")), config, redis)
    assert folder.prompts.read_bytes() == before


@pytest.mark.usefixtures("finished")
async def test_corrected_rows_of_failed_prompts_are_the_next_generation(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder
) -> None:
    receipt = await enqueue(Order(write(tmp_path, (1, 150), 153, model="o/right"), replace=True), config, redis)
    assert (receipt.enqueued, receipt.total, receipt.already_done) == (4, 153, 149)
    waiting = await queued(redis)
    assert {job: [prompt.id for prompt in shard.prompts] for job, shard in waiting.items()} == {
        "night:0:1": ["p1"], "night:1:1": ["p150"], "night:1:2": ["p151", "p152"],
    }  # fmt: skip
    assert [shard.prompts[0].model for shard in waiting.values()] == ["o/right", "o/right", "owner/name"]
    rows = kept(folder)
    assert [rows[index] for index in (0, 1, 2, 150, 151)] == [
        "p0:owner/name:0", "p1:o/right:1", "p2:owner/name:0", "p150:o/right:1", "p151:owner/name:2",
    ]  # fmt: skip
    batch = await Batches(redis).get("night")
    assert (batch.succeeded, batch.failed, batch.canceled, batch.finished_at) == (148, 0, 1, None)
    assert sorted(path.name for path in (folder.path / ".retried").iterdir()) == ["p1.0", "p150.0"]
    again = await enqueue(Order(str(tmp_path / "night.jsonl")), config, redis)
    assert (again.enqueued, again.total) == (0, 153), "the corrected file is the batch's now"


@pytest.mark.usefixtures("finished")
async def test_a_prompt_that_succeeded_keeps_its_row(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder
) -> None:
    before = folder.prompts.read_bytes()
    for source in (write(tmp_path, (0, 1), model="o/right"), write(tmp_path, (1,), id="P1")):
        with pytest.raises(PromptsError, match="give the row another id, or the file another --name") as told:
            await enqueue(Order(source, replace=True), config, redis)
        assert told.value.count == 1
    assert folder.prompts.read_bytes() == before
    assert await queued(redis) == {}


async def test_what_waits_or_runs_is_not_replaced(tmp_path: Path, config: Config, redis: Redis, folder: Folder) -> None:
    await enqueue(Order(write(tmp_path)), config, redis)
    await settle(redis, folder, {1: "failed"})
    order = Order(write(tmp_path, (1, 2), model="o/right"), replace=True)
    with pytest.raises(PromptsError, match="its shard is at work: `python -m jobs cancel night`") as told:
        await enqueue(order, config, redis)
    assert told.value.count == 2, "the job of the failed one has its old row, too"
    await Queue(redis, API_HOST).remove("night")
    await redis.set(keys.lease("night:0"), "worker")
    await settle(redis, folder, {index: "canceled" for index in range(151) if index != 1})
    with pytest.raises(PromptsError, match="its shard is at work"):
        await enqueue(order, config, redis)
    await redis.delete(keys.lease("night:0"))
    assert (await enqueue(order, config, redis)).enqueued == 2


@pytest.mark.usefixtures("finished")
async def test_a_canceled_batch_goes_on_with_its_corrected_rows(tmp_path: Path, config: Config, redis: Redis) -> None:
    await Batches(redis).request_cancel("night")
    receipt = await enqueue(Order(write(tmp_path, (2,), model="o/right"), replace=True), config, redis)
    assert receipt.enqueued == 1
    batch = await Batches(redis).get("night")
    assert (batch.cancel_requested, batch.canceled, batch.failed) == (False, 0, 2)


@pytest.mark.usefixtures("finished")
async def test_a_spent_budget_replaces_nothing(tmp_path: Path, config: Config, redis: Redis, folder: Folder) -> None:
    before = folder.prompts.read_bytes()
    await redis.hset(keys.batch("night"), "predictions", "151")
    order = Order(write(tmp_path, (1,), model="o/right"), replace=True, budget=Budget(100))
    with pytest.raises(InputError, match="higher --max-predictions"):
        await enqueue(order, config, redis)
    assert folder.prompts.read_bytes() == before


@pytest.mark.usefixtures("finished")
async def test_of_a_batch_that_redis_lost_too_only_what_did_not_succeed_is_replaced(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder
) -> None:
    await redis.flushall()
    with pytest.raises(PromptsError, match="and its result"):
        await enqueue(Order(write(tmp_path, (0, 1), model="o/right"), replace=True), config, redis)
    receipt = await enqueue(Order(write(tmp_path, (1,), model="o/right"), replace=True), config, redis)
    assert (receipt.enqueued, receipt.already_done) == (1, 150)
    assert [shard.prompts[0].model for shard in (await queued(redis)).values()] == ["o/right"]
    batch = await Batches(redis).get("night")
    assert (batch.succeeded, batch.failed, batch.canceled) == (148, 1, 1)
    assert kept(folder)[1] == "p1:o/right:1"


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("calls", [0, 1])
async def test_the_same_command_completes_what_a_crash_left(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder, step: tuple[Any, str], calls: int
) -> None:
    order = Order(write(tmp_path, (1, 150), 152, model="o/right"), replace=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*step, crashing(getattr(*step), calls))
        try:
            await enqueue(order, config, redis)
        except RuntimeError:
            pass
        else:
            assert calls, "some steps are taken once only"
    await enqueue(order, config, redis)
    waiting = {prompt.id: prompt.model for shard in (await queued(redis)).values() for prompt in shard.prompts}
    assert waiting == {"p1": "o/right", "p150": "o/right", "p151": "owner/name"}
    batch = await Batches(redis).get("night")
    assert (batch.succeeded, batch.failed, batch.canceled, batch.total) == (148, 0, 1, 152)
    assert sorted(path.name for path in (folder.path / ".retried").iterdir()) == ["p1.0", "p150.0"]
    assert len(kept(folder)) == 152


@pytest.mark.usefixtures("finished")
async def test_retry_goes_on_from_the_corrected_row(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder
) -> None:
    await enqueue(Order(write(tmp_path, (1,), model="o/right"), replace=True), config, redis)
    await Queue(redis, API_HOST).remove("night")
    await settle(redis, folder, {1: "failed"})
    await retry("night", config, redis)
    assert [row for row in kept(folder) if not row.endswith(":0")] == [
        "p1:o/right:2", "p2:owner/name:2", "p150:owner/name:2",
    ]  # fmt: skip
