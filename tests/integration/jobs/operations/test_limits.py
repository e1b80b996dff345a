from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.enqueue.enqueue import Receipt
from jobs.errors import BatchNotFound, InputError
from jobs.operations.limits import limit_lines
from jobs.operations.operations import Operations
from jobs.queue.priority import change_priority
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from tests.integration.jobs.enqueue.night import API_HOST, settle

Enqueue = Callable[..., Awaitable[Receipt]]


async def known(redis: Redis, folder: Folder) -> list[tuple[int | None, int | None, int | None]]:
    """The limits as Redis and the folder have them."""
    batch, manifest = await Batches(redis).get("night"), read_manifest(folder)
    assert manifest
    return [(one.max_predictions, one.max_cost, one.max_in_flight) for one in (batch, manifest)]


async def test_limits_are_set_changed_and_lifted_in_redis_and_in_the_folder(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder
) -> None:
    await enqueued(3)
    await operations.limit("night", {"max_predictions": 9, "max_cost": 500_000, "max_in_flight": 2})
    assert await known(redis, folder) == [(9, 500_000, 2)] * 2
    changed = await operations.limit("night", {"max_cost": 900_000, "max_in_flight": None})
    assert await known(redis, folder) == [(9, 900_000, None)] * 2
    assert list(limit_lines(changed)) == ["night: --max-cost $0.90 (was $0.50), --max-in-flight none (was 2)"]
    assert list(limit_lines(await operations.limit("night", {"max_predictions": 9}))) == [
        "night: these are its limits already"
    ]


async def test_a_dry_run_changes_nothing_and_says_when_a_budget_is_used_up(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder
) -> None:
    await enqueued(3)
    await settle(redis, folder, {0: "succeeded"})
    await redis.hset(keys.batch("night"), "predictions", "2")
    before = await known(redis, folder)
    for most, spent in ((2, True), (3, False)):
        assert (await operations.limit("night", {"max_predictions": most}, 2.0, dry_run=True)).spent == spent
    assert await known(redis, folder) == before
    assert (await Batches(redis).get("night")).priority == 1


async def test_what_cannot_be_a_limit_changes_nothing(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder
) -> None:
    await enqueued([{"id": "p0", "prompt": "x", "model": "c/d"}])
    with pytest.raises(InputError, match="--max-in-flight must be"):
        await operations.limit("night", {"max_in_flight": 0})
    with pytest.raises(InputError, match=r"needs the price of every model; nothing was changed"):
        await operations.limit("night", {"max_cost": 1})
    with pytest.raises(BatchNotFound):
        await operations.limit("day", {"max_in_flight": 1})
    assert await known(redis, folder) == [(None, None, None)] * 2
    assert not Folder(folder.output_dir, "day").path.exists()


async def test_limits_of_a_batch_that_was_deleted_leave_nothing_behind(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(1)
    batch = await Batches(redis).get("night")
    await Batches(redis).delete("night")
    await Batches(redis).change_limits("night", batch.id, {"max_in_flight": 1})
    assert not await redis.exists(keys.batch("night"))


class TestPriority:
    @pytest.fixture(autouse=True)
    async def _two_batches(self, enqueued: Enqueue) -> None:
        await enqueued(1000, "night")
        await enqueued(1000, "day")

    @staticmethod
    async def order(redis: Redis) -> list[str]:
        return [job.decode() for job in await redis.zrange(keys.queue(API_HOST), 0, -1)]

    async def test_shards_that_wait_move_and_stay_in_order(self, operations: Operations, redis: Redis) -> None:
        changed = await operations.limit("day", {}, 3.0)
        assert (changed.moved, changed.before.priority, changed.after.priority) == (10, 1, 3)
        order = await self.order(redis)
        assert sum(job.startswith("day") for job in order[:8]) in (5, 6)
        for name in ("night", "day"):
            assert [job for job in order if job.startswith(name)] == [f"{name}:{number}:0" for number in range(10)]
        assert list(limit_lines(changed)) == ["day: --priority 3 (was 1)", "10 shards moved in the queue"]

    async def test_there_and_back_is_where_they_were(self, operations: Operations, redis: Redis) -> None:
        before = await redis.zrange(keys.queue(API_HOST), 0, -1, withscores=True)
        for priority in (4.0, 1.0):
            await operations.limit("day", {}, priority)
        assert await redis.zrange(keys.queue(API_HOST), 0, -1, withscores=True) == before

    async def test_shards_that_run_stay_where_they_are(self, operations: Operations, redis: Redis) -> None:
        queue = keys.queue(API_HOST)
        running = [f"{name}:{number}:0" for name in ("night", "day") for number in range(3)]
        for job in running:
            await redis.set(keys.ARQ_IN_PROGRESS + job, "1")
        before = {job: await redis.zscore(queue, job) for job in running}
        assert (await operations.limit("night", {}, 100.0)).moved == 7
        assert {job: await redis.zscore(queue, job) for job in running} == before
        waiting = [job for job in await self.order(redis) if job not in running]
        assert [job.partition(":")[0] for job in waiting[:7]].count("night") == 7

    async def test_the_same_priority_moves_nothing(self, operations: Operations, redis: Redis) -> None:
        before = await redis.zrange(keys.queue(API_HOST), 0, -1, withscores=True)
        assert (await operations.limit("day", {}, 1.0)).moved == 0
        assert await redis.zrange(keys.queue(API_HOST), 0, -1, withscores=True) == before

    async def test_what_is_retried_goes_by_the_new_priority(self, operations: Operations, redis: Redis) -> None:
        await operations.limit("night", {}, 2.0)
        await settle(redis, Folder(operations.config.output_dir, "night"), {0: "failed"})
        await operations.retry("night")
        last, retried = [await redis.zscore(keys.queue(API_HOST), f"night:{job}") for job in ("9:0", "0:1")]
        assert (retried or 0) - (last or 0) == 0.5

    async def test_a_batch_that_was_replaced_is_not_found(self, redis: Redis) -> None:
        batch = replace(await Batches(redis).get("day"), id="other")
        with pytest.raises(BatchNotFound):
            await change_priority(redis, batch, 2.0)
