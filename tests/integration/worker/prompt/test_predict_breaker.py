"""The path of a prompt and the breaker of its model: what waits, what is tried, what goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.wire import Batch
from tests.integration.worker.prompt.works import work
from worker.context import Context, Work
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.limits.refused_rows import MANY_UNKNOWN
from worker.prompt.predict import predict
from worker.timing import Timing


@pytest.fixture
async def worker(
    simulator: Any,
    request: pytest.FixtureRequest,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1, loose=0.0)
    settings: dict[str, Any] = {
        "max_attempts": 1,
        "max_in_flight": 1,
        "breaker_refusals": 3,
        "breaker_failures": 0.05,
        "breaker_pause": getattr(request, "param", 0.5),
    }
    worker = await open_worker(**settings)
    await open_batch(worker, total=100)
    return worker


def kinds(works: list[Work]) -> list[Any]:
    found = [work.folder.read_record(work.prompt.id) for work in works]
    return [one and (one.error.kind if one.error else one.status) for one in found]


async def test_rows_that_are_refused_end_with_their_reason_and_pause_nobody(worker: Context, simulator: Any) -> None:
    refused = [work(worker, index, num_outputs=9) for index in range(8)]
    good = [work(worker, index) for index in range(8, 11)]
    await asyncio.gather(*map(predict, [*refused, *good]))
    assert kinds(refused) == ["invalid_input"] * 8
    assert kinds(good) == ["succeeded"] * 3
    assert await worker.account.paused_models() == {}
    assert simulator.ledger()["created"] == 3


async def test_after_many_refusals_rows_of_that_batch_are_created_one_at_a_time(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    worker = replace(worker, in_flight=PrioritySemaphore(100))
    await asyncio.gather(*(predict(work(worker, index, num_outputs=9)) for index in range(3)))
    held = [worker.connections.acquire(0.0) for _ in range(worker.connections.size)]
    await asyncio.gather(*held)
    waiting = [work(worker, index, num_outputs=9) for index in range(3, 9)] + [work(worker, 9)]
    tasks = [asyncio.create_task(predict(one)) for one in waiting]
    other = asyncio.create_task(predict(work(worker, 10, "simulator/text")))
    await eventually(lambda: worker.connections.waiting == 2)  # one of them, and one of another model
    await eventually(
        lambda: [worker.waits.reason_before_create(one.name) for one in waiting].count("refused simulator/image") == 6
    )
    for _ in held:
        worker.connections.release()
    await asyncio.gather(*tasks, other)
    assert kinds(waiting) == [*["invalid_input"] * 6, "succeeded"]
    assert not worker.refused_rows.is_slow(waiting[0].shard, "simulator/image"), "one was accepted"
    assert simulator.ledger()["created"] == 2


@pytest.mark.parametrize(
    ("model", "kind"), [("deployments/nobody/nothing", "not_found"), ("nobody/nothing", "invalid_input")]
)
async def test_a_model_that_does_not_exist_ends_all_its_rows_at_once(
    worker: Context, simulator: Any, model: str, kind: str
) -> None:
    works = [work(worker, index, model) for index in range(30)]
    good = work(worker, 30)
    await asyncio.gather(*map(predict, [*works, good]))
    assert kinds(works) == [kind] * 30
    messages = {
        record.error.message for one in works if (record := one.folder.read_record(one.prompt.id)) and record.error
    }
    assert len(messages) == 1
    assert kinds([good]) == ["succeeded"]
    assert simulator.ledger()["calls"]["create"] <= MANY_UNKNOWN + 3, "those under way, and the good one"


@pytest.mark.parametrize("timing", [Timing(once_more_after=0.02)])
async def test_a_model_that_worked_is_asked_for_each_row(worker: Context, simulator: Any) -> None:
    model = "deployments/nobody/nothing"
    await worker.breaker.record_outcome(model, "night/before", "failed")
    works = [work(worker, index, model) for index in range(8)]
    await asyncio.gather(*map(predict, works))
    assert kinds(works) == ["not_found"] * 8
    assert simulator.ledger()["calls"]["create"] == 16, "once more each"


async def test_a_retry_asks_for_a_missing_model_again(worker: Context, simulator: Any) -> None:
    model = "deployments/nobody/nothing"
    await asyncio.gather(*(predict(work(worker, index, model)) for index in range(6)))
    before = simulator.ledger()["calls"]["create"]
    again = work(worker, 6, model)
    await predict(replace(again, shard=replace(again.shard, generation=1)))
    assert simulator.ledger()["calls"]["create"] == before + 1


async def test_a_model_that_fails_costs_no_more_than_the_window_and_its_probes(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(failed={"rate": 1.0, "text": "shapes cannot be broadcast", "kinds": ["create"]})
    works = [work(worker, index) for index in range(10)]
    tasks = [asyncio.create_task(predict(one)) for one in works]
    await eventually(worker.account.paused_models)
    simulator.clear()
    await asyncio.gather(*tasks)
    failed = kinds(works).count("model_error")
    assert 3 <= failed <= 5  # more than 5 % of 50, one that was under way already, and a probe
    assert kinds(works).count("succeeded") == 10 - failed
    assert simulator.ledger()["created"] == 10
