from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.enqueue.enqueue import Receipt
from jobs.errors import BatchNotFound
from jobs.operations.operations import Operations
from jobs.operations.preview import Preview, preview_lines
from jobs.operations.selection import Selection
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.ledger import Ledger
from tests.integration.jobs.enqueue.night import API_HOST, settle

ROWS = [{"id": f"p{n}", "prompt": "fox", **({"model": "c/d"} if n == 5 else {})} for n in range(6)]
Enqueue = Callable[..., Awaitable[Receipt]]


@pytest.fixture
def facts(redis: Redis, operations: Operations, folder: Folder) -> Any:
    """What nobody may change who only looks."""

    async def read() -> Any:
        batches = Batches(redis)
        records = sorted(str(path) for path in folder.path.rglob("*"))
        return await batches.get("night"), await batches.settled("night"), records, await operations.queued()

    return read


async def test_a_retry_says_which_prompts_it_would_create_again_and_what_they_cost(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder, facts: Any
) -> None:
    await enqueued(ROWS)
    await settle(redis, folder, {0: "succeeded", 1: "failed", 2: "canceled", 5: "failed"})
    before = await facts()
    found = await operations.preview_retry("night", Selection(statuses=frozenset({"failed"})))
    assert found == Preview(
        operation="retry", batch="night", prompts=2, models={"a/b": 1, "c/d": 1}, unpriced=found.unpriced,
        cost_at_least=0.01, cost_is_partial=True, unpriced_models=["c/d"],
    )  # fmt: skip
    assert list(preview_lines(found)) == [
        "night: would retry 2 prompts: 1 of a/b, 1 of c/d; costs at least $0.01; no price for c/d",
        "`python -m jobs prices fetch c/d` reads missing prices",
        "Nothing was done. The same command without --dry-run does it.",
    ]
    assert [sentence.partition(":")[0] for sentence in found.unpriced] == ["line 6"]
    known = await operations.preview_retry("night", Selection(models=frozenset({"a/b"})))
    assert (known.prompts, known.cost_at_least, known.cost_at_most) == (2, 0.02, 0.04)
    assert list(preview_lines(known)) == [
        "night: would retry 2 prompts: 2 of a/b; costs at least $0.02, at most $0.04",
        "Nothing was done. The same command without --dry-run does it.",
    ]
    assert await facts() == before
    assert (await operations.retry("night", only=Selection(models=frozenset({"a/b"})))).enqueued == known.prompts


async def test_a_retry_counts_the_prompts_of_dead_letters(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder
) -> None:
    await enqueued(ROWS)
    await settle(redis, folder, {0: "succeeded", 1: "failed"})
    await DeadLetters(redis).move_to_dead_letters(JobId("night", 0, 0), "it died")
    assert (await operations.preview_retry("night")).prompts == 5


async def test_a_cancel_says_what_runs_and_what_will_never_be_created(
    enqueued: Enqueue, operations: Operations, redis: Redis, folder: Folder, facts: Any
) -> None:
    await enqueued(ROWS)
    await settle(redis, folder, {0: "succeeded"})
    batch = await Batches(redis).get("night")
    ledger = Ledger(redis, API_HOST, "night", batch.id, 1)
    await ledger.record(await ledger.intend(await ledger.read()), "prediction")
    before = await facts()
    found = await operations.preview_cancel("night", Selection(ids=frozenset({"p0", "p1", "p2", "p3"})))
    assert found.model_dump(exclude={"operation", "batch", "unpriced", "unpriced_models"}) == {
        "prompts": 3,
        "models": {"a/b": 3},
        "in_flight": 1,
        "never_created": 2,
        "cost_at_least": 0.02,
        "cost_at_most": 0.04,
        "cost_is_partial": False,
    }
    assert list(preview_lines(found)) == [
        "night: would cancel 3 prompts: 3 of a/b",
        "In flight, and canceled at Replicate: 1",
        "Never created: 2; that would cost at least $0.02, at most $0.04",
        "Nothing was done. The same command without --dry-run does it.",
    ]
    assert (await operations.preview_cancel("night")).prompts == 5
    assert await facts() == before


async def test_there_may_be_nothing_to_do(enqueued: Enqueue, operations: Operations) -> None:
    await enqueued(ROWS)
    assert list(preview_lines(await operations.preview_retry("night"))) == [
        "night: there is nothing to retry; `python -m jobs status night` says why"
    ]


async def test_an_unknown_batch_is_not_found(operations: Operations) -> None:
    for preview in (operations.preview_retry("night"), operations.preview_cancel("night")):
        with pytest.raises(BatchNotFound):
            await preview
