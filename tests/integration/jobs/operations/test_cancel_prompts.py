from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from jobs.batch_folder.folder import Folder
from jobs.enqueue.enqueue import Receipt
from jobs.errors import InputError
from jobs.operations.operations import Operations
from jobs.operations.prompts_canceled import PromptsCanceled, prompts_canceled_lines
from jobs.operations.selection import Selection
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from tests.integration.jobs.enqueue.night import settle

Enqueue = Callable[..., Awaitable[Receipt]]


async def test_only_selected_prompts_without_a_result_will_be_canceled(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder
) -> None:
    await enqueued(250)
    await settle(redis, folder, {0: "succeeded"})
    chosen = Selection(ids=frozenset({"p0", "p99", "p100", "p249"}))
    found = await operations.cancel_prompts("night", chosen)
    assert found == PromptsCanceled(batch="night", prompts=3, workers=0, dead_letters=[])
    assert found.prompts == (await operations.preview_cancel("night", chosen)).prompts
    assert [await Batches(redis).to_cancel("night", shard) for shard in range(3)] == [{99}, {100}, {249}]
    batch = await Batches(redis).get("night")
    assert (batch.cancel_requested, batch.settled) == (False, 1)
    assert next(prompts_canceled_lines(found)) == "night: 3 prompts will be canceled by the next worker"


async def test_a_retry_leaves_what_is_to_be_canceled(enqueued: Enqueue, operations: Operations, redis: Redis) -> None:
    await enqueued(3)
    await DeadLetters(redis).move_to_dead_letters(JobId("night", 0, 0), "it died")
    found = await operations.cancel_prompts("night", Selection(ids=frozenset({"p1"})))
    assert "dead letters" in list(prompts_canceled_lines(found))[-1]
    await operations.retry("night")
    assert await Batches(redis).to_cancel("night", 0) == {1}


async def test_nothing_is_canceled_that_is_done_or_unknown(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder
) -> None:
    await enqueued(3)
    await settle(redis, folder, {0: "succeeded"})
    with pytest.raises(InputError, match="no prompt 'q'"):
        await operations.cancel_prompts("night", Selection(ids=frozenset({"p1", "q"})))
    found = await operations.cancel_prompts("night", Selection(ids=frozenset({"p0"})))
    assert list(prompts_canceled_lines(found)) == [
        "night: all of these have their results already; nothing to cancel",
        "`python -m jobs results night` sums them up",
    ]
    assert not await redis.exists(keys.to_cancel("night"))


async def test_it_goes_with_its_batch(enqueued: Enqueue, operations: Operations, redis: Redis) -> None:
    await enqueued(3)
    await operations.cancel_prompts("night", Selection(ids=frozenset({"p1"})))
    assert await redis.exists(keys.to_cancel("night"))
    await operations.delete("night", force=True)
    assert not await redis.exists(keys.to_cancel("night"))
