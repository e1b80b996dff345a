"""Redis was wiped, and the folder still knows what was done and paid for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs.batch_folder.folder import RETRIED, Folder
from jobs.budget import Budget
from jobs.config import Config
from jobs.enqueue.enqueue import Receipt
from jobs.prices.setting import Prices
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Failure

Enqueue = Callable[..., Awaitable[Receipt]]
Record = Callable[..., None]


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"prices": Prices.parse("owner/name=0.003")})


async def test_a_wiped_redis_knows_again_what_the_folder_knows(
    enqueued: Enqueue, redis: Redis, folder: Folder, record: Record
) -> None:
    await enqueued(150, budget=Budget(200, 1_000_000, 20))
    record("p0", 0, prediction_ids=("a",), cost=0.003)
    record("p2", 2, prediction_ids=("b", "c"), unknown_creates=1, cost=0.009)
    failure = Failure(kind="over_budget", message="spent")
    record("p120", 120, status="failed", error=failure, cost=0.0)
    record("p121", 121, status="canceled")
    record(f"{RETRIED}/p0.0", 0, status="failed", prediction_ids=("d", "e"), cost=0.006)
    folder.prompt("p7").mkdir()
    folder.prompt("p8").mkdir()
    (folder.prompt("p8") / "prediction.json").write_text("{")
    (folder.path / "notes").mkdir()
    await redis.flushall()
    receipt = await enqueued(150)
    batch = await Batches(redis).get("night")
    assert (receipt.total, receipt.already_done, receipt.enqueued) == (150, 4, 146)
    assert (batch.succeeded, batch.failed, batch.canceled, batch.over_budget) == (2, 1, 1, 1)
    assert (batch.predictions, batch.cost) == (6, 18_000)
    assert (batch.max_predictions, batch.max_cost, batch.max_in_flight) == (200, 1_000_000, 20)
    settled = await Batches(redis).settled("night")
    assert [index for index in range(150) if index in settled] == [0, 2, 120, 121]
    assert [index in await Batches(redis).unsuccessful("night") for index in (0, 2, 120, 121)] == [
        False,
        False,
        True,
        True,
    ]
    await enqueued(150)
    assert await Batches(redis).get("night") == batch


async def test_the_last_recorded_prompt_is_left_to_a_worker_that_ends_the_batch(
    enqueued: Enqueue, redis: Redis, record: Record
) -> None:
    await enqueued(5)
    for index in range(5):
        record(f"p{index}", index, prediction_ids=(str(index),), cost=0.003)
    await redis.flushall()
    receipt = await enqueued(5)
    assert (receipt.already_done, receipt.enqueued, receipt.shards) == (4, 1, 1)
    batch = await Batches(redis).get("night")
    assert (batch.succeeded, batch.total, batch.predictions, batch.finished_at) == (4, 5, 4, None)


async def test_a_crash_while_counting_counts_nothing_twice(
    enqueued: Enqueue, redis: Redis, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enqueued(5)
    for index in range(3):
        record(f"p{index}", index, prediction_ids=(str(index),), cost=0.003)
    record(f"{RETRIED}/p0.0", 0, prediction_ids=("old",), cost=0.003)
    await redis.flushall()

    async def crash(self: Batches, name: str, batch_id: str, results: list[Any]) -> None:
        await settle_all(self, name, batch_id, results[:2])
        raise RuntimeError("crash")

    settle_all = Batches.settle_all
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "settle_all", crash)
        with pytest.raises(RuntimeError, match="crash"):
            await enqueued(5)
    assert (await enqueued(5)).already_done == 3
    batch = await Batches(redis).get("night")
    assert (batch.succeeded, batch.predictions, batch.cost) == (3, 4, 12_000)
