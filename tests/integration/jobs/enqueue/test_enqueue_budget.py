"""Budgets and estimates, as far as a producer has to do with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.budget import Budget
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, check, retry
from jobs.errors import InputError
from jobs.prices.setting import Prices
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Spent
from jobs.wire import Batch, Failure
from tests.integration.jobs.enqueue.night import API_HOST, write

PRICES = Prices.parse("owner/name=0.003, owner/video=0.001/s max 0.50")
Enqueue = Callable[..., Awaitable[Receipt]]
Record = Callable[..., None]


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"prices": PRICES, "max_attempts": 3})


async def limits(redis: Redis) -> tuple[int | None, int | None]:
    batch = await Batches(redis).get("night")
    return batch.max_predictions, batch.max_cost


async def test_a_budget_is_known_before_a_shard_is_queued(
    enqueued: Enqueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def look(self: Queue, batch: Batch, shards: Any) -> Any:
        seen.append(await limits(redis))
        return await add(self, batch, shards)

    add = Queue.add
    monkeypatch.setattr(Queue, "add", look)
    await enqueued(3, budget=Budget(10, 5_000_000))
    await enqueued(3, budget=Budget(max_predictions=20))
    await enqueued(3)
    assert seen == [(10, 5_000_000), (20, 5_000_000), (20, 5_000_000)]


async def test_without_a_budget_there_is_no_limit(enqueued: Enqueue, redis: Redis, folder: Folder) -> None:
    await enqueued(3)
    assert await limits(redis) == (None, None)
    manifest = read_manifest(folder)
    assert manifest
    assert (manifest.max_predictions, manifest.max_cost) == (None, None)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(max_predictions=0), "--max-predictions must be between 1"),
        (Budget(max_predictions=10**10), "--max-predictions must be between 1"),
        (Budget(max_in_flight=0), "--max-in-flight must be between 1"),
        (Budget(max_cost=0), "--max-cost must be above 0"),
        (Budget(max_cost=10**14), "at most 10000000 dollars"),
    ],
)
async def test_a_wrong_limit_does_nothing(
    enqueued: Enqueue, config: Config, redis: Redis, budget: Budget, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        await enqueued(3, budget=budget)
    assert await redis.keys("*") == []
    assert not config.output_dir.exists()


ROWS = [
    {"id": "a", "prompt": "x"},
    {"id": "b", "prompt": "x", "model": "other/one"},
    {"id": "c", "prompt": "x", "model": "other/two"},
    {"id": "d", "prompt": "x", "model": "other/one"},
]


async def test_a_budget_in_dollars_needs_all_prices(enqueued: Enqueue, config: Config, redis: Redis) -> None:
    with pytest.raises(InputError) as caught:
        await enqueued(ROWS, budget=Budget(max_cost=1))
    assert str(caught.value).splitlines()[1:3] == [
        "  line 2: other/one has no price, and 1 more prompt",
        "  line 3: other/two has no price",
    ]
    assert "BATCH_PRICES" in str(caught.value)
    assert await redis.keys("*") == []
    assert list(config.output_dir.iterdir()) == []
    await enqueued(ROWS, budget=Budget(max_predictions=1))
    assert await limits(redis) == (1, None)


async def test_models_without_a_price_are_counted_beyond_twenty(enqueued: Enqueue) -> None:
    with pytest.raises(InputError) as caught:
        await enqueued([{"prompt": "x", "model": f"other/m{n}"} for n in range(23)], budget=Budget(max_cost=1))
    assert "… and 3 more models" in str(caught.value)
    assert "line 20" in str(caught.value)
    assert "line 21" not in str(caught.value)


async def test_rows_beyond_the_limit_need_no_price(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(ROWS, budget=Budget(max_cost=1), limit=1)
    assert await limits(redis) == (None, 1)


async def test_prices_are_needed_of_new_rows_and_of_those_that_are_in_the_batch(
    enqueued: Enqueue, config: Config, redis: Redis, folder: Folder
) -> None:
    await enqueued(1, budget=Budget(max_cost=1))
    copy = folder.prompts.read_bytes()
    with pytest.raises(InputError, match="line 1: other/one has no price"):
        await enqueued([{"id": "new", "prompt": "x", "model": "other/one"}])
    assert folder.prompts.read_bytes() == copy
    unpriced = config.model_copy(update={"prices": Prices()})
    with pytest.raises(InputError, match=r"prompts\.jsonl: --max-cost needs.*\n  line 1: owner/name has no price"):
        await retry("night", unpriced, redis, Budget(max_cost=2))
    assert await limits(redis) == (None, 1)


async def test_a_budget_in_dollars_comes_too_late_for_rows_without_a_price(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(ROWS)
    with pytest.raises(InputError, match=r"prompts\.jsonl: --max-cost needs.*\n  line 2: other/one has no price"):
        await enqueued(1, budget=Budget(max_cost=1))
    assert await limits(redis) == (None, None)
    assert (await Batches(redis).get("night")).total == 4


async def test_retry_raises_the_budget_before_it_queues(
    enqueued: Enqueue, config: Config, redis: Redis, folder: Folder, record: Record
) -> None:
    await enqueued(2, budget=Budget(1, 3000))
    record("p1", 1, status="failed", error=Failure(kind="over_budget", message="spent"))
    batches = Batches(redis)
    await batches.settle("night", 0, "succeeded", spent=Spent(1, 3000))
    await batches.settle("night", 1, "failed", spent=Spent(0, 0, "over_budget"))
    await Queue(redis, API_HOST).remove("night")
    assert (await batches.get("night")).over_budget == 1
    for too_low in (Budget(), Budget(max_cost=6000), Budget(max_predictions=2)):
        with pytest.raises(InputError, match="give it a higher --max-"):
            await retry("night", config, redis, too_low)
    receipt = await retry("night", config, redis, Budget(2, 6000))
    assert (receipt.enqueued, receipt.cost_at_least, receipt.cost_at_most) == (1, 0.003, 0.009)
    batch = await batches.get("night")
    assert (batch.max_predictions, batch.max_cost) == (2, 6000)
    assert (batch.over_budget, batch.failed, batch.predictions, batch.cost) == (0, 0, 1, 3000)
    manifest = read_manifest(folder)
    assert manifest
    assert (manifest.max_predictions, manifest.max_cost) == (2, 6000)


async def test_what_is_left_is_estimated(enqueued: Enqueue, redis: Redis) -> None:
    rows = [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x"}, {"id": "c", "prompt": "x", "model": "owner/video"}]
    receipt = await enqueued(rows)
    assert (receipt.cost_at_least, receipt.cost_at_most) == (0.006, 1.518)
    await Batches(redis).settle("night", 2, "succeeded")
    receipt = await enqueued(rows)
    assert (receipt.cost_at_least, receipt.cost_at_most) == (0.006, 0.018)
    receipt = await enqueued(ROWS, name="other")
    assert (receipt.cost_at_least, receipt.cost_at_most, receipt.cost_is_partial) == (0.003, None, True)
    assert receipt.unpriced_models == ["other/one", "other/two"]


async def test_check_estimates_and_names_what_has_no_price(config: Config, tmp_path: Path) -> None:
    found = await check(Order(write(tmp_path / "night.jsonl", 100)), config)
    assert (found.total, found.cost_at_least, found.cost_at_most, found.unpriced) == (100, 0.3, 0.9, ())
    found = await check(Order(write(tmp_path / "night.jsonl", ROWS)), config)
    assert (found.total, found.cost_at_least, found.cost_at_most, found.cost_is_partial) == (4, 0.003, None, True)
    assert found.unpriced_models == ("other/one", "other/two")
    assert found.unpriced == ("line 2: other/one has no price, and 1 more prompt", "line 3: other/two has no price")
    with pytest.raises(InputError, match="needs the price"):
        await check(Order(write(tmp_path / "night.jsonl", ROWS), budget=Budget(max_cost=1)), config)
    assert (await check(Order(write(tmp_path / "night.jsonl", ROWS), limit=1), config)).cost_at_most == 0.009
    unpriced = await check(Order(write(tmp_path / "night.jsonl", 1)), config.model_copy(update={"prices": Prices()}))
    assert (unpriced.cost_at_least, unpriced.unpriced, unpriced.unpriced_models) == (None, (), ())


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        (Budget(max_cost=10_000), r"0\.009 of 0\.01 dollars.*costs 0\.003.*higher --max-cost"),
        (Budget(max_predictions=3), r"3 of 3 predictions.*higher --max-predictions"),
    ],
)
async def test_retry_enqueues_nothing_that_must_fail_again(
    enqueued: Enqueue, config: Config, redis: Redis, record: Record, budget: Budget, why: str
) -> None:
    await enqueued(4, budget=budget)
    batches = Batches(redis)
    record("p0", 0, status="failed", error=Failure(kind="over_budget", message="spent"))
    await batches.settle("night", 0, "failed", spent=Spent(3, 9000, "over_budget"))
    with pytest.raises(InputError, match=why):
        await retry("night", config, redis)
    batch = await batches.get("night")
    assert (batch.settled, batch.failed, batch.generation) == (1, 1, 0)
    receipt = await retry("night", config, redis, Budget(max_predictions=9, max_cost=90_000))
    assert receipt.enqueued == 1


async def test_retry_of_a_spent_budget_only_takes_up_what_was_set_aside(
    enqueued: Enqueue, config: Config, redis: Redis, record: Record
) -> None:
    await enqueued(2, budget=Budget(max_predictions=1))
    batches, letters = Batches(redis), DeadLetters(redis)
    record("p0", 0, status="failed", error=Failure(kind="over_budget", message="spent"))
    await batches.settle("night", 0, "failed", spent=Spent(1, 3000, "over_budget"))
    await letters.move_to_dead_letters(JobId("night", 0, 0), "three runs died")
    await Queue(redis, API_HOST).remove("night")
    receipt = await retry("night", config, redis)
    assert "1 of 1 predictions" in receipt.warnings[0]
    assert (receipt.enqueued, receipt.already_done) == (1, 1)
    assert await letters.of("night") == {}


async def test_retry_of_what_succeeded_asks_for_no_budget(enqueued: Enqueue, config: Config, redis: Redis) -> None:
    await enqueued(1, budget=Budget(max_predictions=1))
    await Batches(redis).settle("night", 0, "succeeded", spent=Spent(1, 3000))
    receipt = await retry("night", config, redis)
    assert (receipt.enqueued, receipt.already_done) == (0, 1)
