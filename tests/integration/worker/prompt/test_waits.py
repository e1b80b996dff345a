"""Whatever makes prompts wait has its reason in `status`, and loses it with its cause."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.account.live_workers import send_heartbeat
from jobs.account.rate_limit import Hold, RateLimit
from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.model_limits import ModelLimits
from jobs.operations.report import notes
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.ledger import Entry
from jobs.state.status import read_status
from jobs.state.waits import Wait, Waits
from jobs.wire import Batch
from tests.integration.worker.prompt.works import work
from worker.context import Context, Work
from worker.limits import wait_reporter
from worker.prompt.predict import predict
from worker.shard.run import find_folder
from worker.timing import Timing


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=60.0, predict_max=60.0, loose=0.0)
    settings: dict[str, Any] = {
        "breaker_failures": 0.01,
        "breaker_pause": 600.0,
        "breaker_refusals": 1,
        "model_limits": ModelLimits.parse("simulator/text=max 1, simulator/audio=1/min"),
    }
    worker = await open_worker(**settings)
    await open_batch(worker, total=100)
    return worker


@pytest.fixture
async def waits(worker: Context, eventually: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    """`await waits("reason", *works)`: these prompts run, and the status of their batch has the reason."""
    tasks: list[asyncio.Task[None]] = []

    async def has(reason: str, *works: Work) -> None:
        tasks.extend(asyncio.create_task(predict(one)) for one in works)

        async def told() -> bool:
            status = await read_status(worker.redis, await worker.batches.get("night"))
            return any(reason in one for one in status.reasons) and reason in (status.reason or "")

        await eventually(told)

    yield has
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def gone(worker: Context, eventually: Callable[..., Any]) -> None:
    async def none() -> bool:
        return not (await read_status(worker.redis, await worker.batches.get("night"))).reasons

    await eventually(none)


async def test_a_pause_of_the_account(
    worker: Context, waits: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    await worker.account.pause("the token is refused")
    await waits("the token is refused", work(worker, 0))
    await worker.account.resume()
    await gone(worker, eventually)


@pytest.mark.parametrize(("why", "reason"), [("throttled", "holds us back (429"), ("reduced", "six creates a minute")])
async def test_an_answer_429(worker: Context, waits: Callable[..., Any], why: Hold, reason: str) -> None:
    await RateLimit(worker.redis, worker.config.api_host, "create", 60_000.0).hold(600.0, why)
    await waits(reason, work(worker, 0))


async def test_a_model_that_is_paused(worker: Context, waits: Callable[..., Any]) -> None:
    await worker.breaker.record_outcome("simulator/image", "night/x", "failed", "broken")
    await waits("model simulator/image is paused: 1 of its last 1 predictions failed", work(worker, 0), work(worker, 1))


async def test_a_model_that_is_paused_is_no_reason_for_batches_without_it(worker: Context, redis: Redis) -> None:
    await worker.breaker.record_outcome("simulator/image", "day/x", "failed", "broken")
    assert (await read_status(redis, await worker.batches.get("night"))).reasons == []


@pytest.mark.parametrize("model", ["simulator/text", "simulator/audio"])
async def test_the_limit_of_a_model(
    worker: Context, waits: Callable[..., Any], caplog: pytest.LogCaptureFixture, model: str
) -> None:
    caplog.set_level(logging.INFO, "worker.limits.wait_reporter")
    await waits(f"for the limit of {model}", *(work(worker, index, model) for index in range(5)))
    assert len([record for record in caplog.records if "for the limit of" in record.message]) == 1


async def test_the_log_tells_of_a_wait_once_and_of_its_end(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "worker.limits.wait_reporter")
    mine = wait_reporter.WaitReporter(redis, "me")
    for _ in range(20):  # it comes and goes
        with mine.on("night/1", "model limit", "a/b"), mine.on("night/2", "model limit", "a/b"):
            await mine.report_changes()
        await mine.report_changes()
    assert [record.message for record in caplog.records] == [
        "night: 2 prompts wait for the limit of a/b in BATCH_MODEL_LIMITS"
    ]
    mine.over = -1.0
    await mine.report_changes()
    assert caplog.records[-1].message == "night: nothing waits for the model limit of a/b any more"


async def test_the_limit_of_a_batch(worker: Context, waits: Callable[..., Any]) -> None:
    await worker.batches.set_budget("night", None, None, 1)
    await waits("for the batch's --max-in-flight", *(replace(work(worker, n), limited=True) for n in range(3)))


async def test_a_budget_that_is_reserved(worker: Context, waits: Callable[..., Any]) -> None:
    await worker.batches.set_budget("night", 1, None)
    await waits("have reserved of the budget", *(work(worker, index) for index in range(3)))


async def test_a_price_that_is_missing(worker: Context, waits: Callable[..., Any]) -> None:
    await worker.batches.set_budget("night", None, 1_000_000)
    await waits("BATCH_PRICES of a worker has no price for simulator/image", work(worker, 0))


async def test_rows_that_are_refused(worker: Context, waits: Callable[..., Any]) -> None:
    await predict(work(worker, 0, num_outputs=9))
    await worker.connections.acquire(0.0)
    for _ in range(worker.connections.size - 1):
        await worker.connections.acquire(0.0)
    await waits("creates of simulator/image were refused in a row", *(work(worker, index) for index in range(1, 4)))


async def test_a_create_whose_answer_was_lost(worker: Context, waits: Callable[..., Any]) -> None:
    lost = work(worker, 0)
    await lost.ledger.intend(Entry())
    await waits("1 prompt waits: their creates were never answered", lost)


async def test_a_file_that_is_not_there_yet_is_its_batchs_own_trouble(
    worker: Context, simulator: Any, waits: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    other = Batch("other", "b2", worker.config.api_host, 1.0, 100, 0, 1.0)
    await worker.batches.open(other)
    await send_heartbeat(worker.redis, worker.config.api_host, "w", 60)
    simulator.settings(predict_min=0.0, predict_max=0.0)
    simulator.control(late_file={"rate": 1.0, "seconds": 4.0})
    await waits("1 prompt waits for files to be at their URLs", work(worker, 0))
    assert (await read_status(worker.redis, other)).reasons == []
    await gone(worker, eventually)


@pytest.mark.parametrize("timing", [Timing(jitter=lambda: 1.0)])
async def test_a_prompt_that_is_tried_again_in_a_while(
    worker: Context, simulator: Any, waits: Callable[..., Any]
) -> None:
    simulator.settings(predict_min=0.0, predict_max=0.0)
    simulator.control(failed={"rate": 1.0, "text": "in demand (E003)"})
    await waits("to be tried again after: in demand (E003)", work(worker, 0))


async def test_outputs_that_pile_up_and_disks_in_trouble(worker: Context, waits: Callable[..., Any]) -> None:
    await worker.account.report_trouble("3 outputs wait to be saved", 60)
    await waits("3 outputs wait to be saved", work(worker, 0))


async def test_an_api_that_does_not_answer(worker: Context, waits: Callable[..., Any]) -> None:
    await worker.account.set_notice("the API does not answer")
    await waits("the API does not answer", work(worker, 0))


async def test_a_folder_that_is_not_seen(
    worker: Context, waits: Callable[..., Any], eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shard, folder = work(worker, 0).shard, Folder(worker.config.output_dir, "night")
    text = folder.manifest.read_text()
    folder.manifest.unlink()
    assert not await find_folder(worker, shard, folder)
    assert not await find_folder(worker, shard, folder)
    await waits(f"does not see the batch's folder: it looked for {folder.manifest}")
    assert len([record for record in caplog.records if " is skipped: " in record.message]) == 1
    folder.manifest.write_text(text)
    assert await find_folder(worker, shard, folder)
    await gone(worker, eventually)


async def test_no_worker(redis: Redis, config: Config) -> None:
    batches = Batches(redis)
    await batches.open(Batch("night", "b1", config.api_host, 1.0, 100, 0, 1.0))
    status = await read_status(redis, await batches.get("night"))
    assert (status.reason, status.reasons) == ("no worker is up", ["no worker is up"])
    assert [note for note in notes([status]) if "No worker is up" in note] == list(notes([status])), "said once"


async def test_what_a_dead_worker_told_is_forgotten_and_what_several_tell_is_added(redis: Redis) -> None:
    waits = Waits(redis)
    await waits.report("night", "one", [Wait("model limit", "a/b", 3)])
    await waits.report("night", "two", [Wait("model limit", "a/b", 2), Wait("budget", "", 9)])
    assert await waits.of("night") == [Wait("budget", "", 9), Wait("model limit", "a/b", 5)]
    await redis.hset(keys.waits("night"), "one", json.dumps({"until": 1.0, "waits": [["budget", "", 7]]}))
    assert await waits.of("night") == [Wait("budget", "", 9), Wait("model limit", "a/b", 2)]
    await waits.report("night", "two", [])
    assert await waits.of("night") == []
    await redis.delete(keys.waits("night"))
