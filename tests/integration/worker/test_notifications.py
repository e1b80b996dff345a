"""What a worker notifies people of: each event once, at the place where it is decided."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.queue.payload import JobId
from jobs.redis_client import keys
from jobs.state.outbox import Outbox
from jobs.wire import Batch, Failure, Prompt, Result, Shard
from tests.http_receiver import HttpReceiver
from worker.context import Context, Work
from worker.prompt.predict import settle
from worker.reports.alarms import Alarms
from worker.shard.finish import finish_batch
from worker.shard.run_log import dead_letter

CAT, DOG = (Prompt(index, name, "owner/model", {}) for index, name in enumerate(("cat", "dog")))
SHARD = Shard("night", "b1", 0, 0, (CAT, DOG))


@pytest.fixture
async def hook(config: Config) -> AsyncIterator[HttpReceiver]:
    async with HttpReceiver.running() as receiver:
        config.notify.write_text(f'[[receiver]]\nname = "ops"\nwebhook = "{receiver.url}"\n')
        yield receiver


@pytest.fixture
async def worker(hook: HttpReceiver, open_worker: Callable[..., Awaitable[Context]]) -> Context:
    assert hook
    return await open_worker()


@pytest.fixture
def notified(hook: HttpReceiver, worker: Context, eventually: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """`await notified(2)`: the payloads of two messages, and of no more when all that was posted is delivered."""

    async def payloads(count: int = 1) -> list[dict[str, Any]]:
        outbox = Outbox(worker.redis, worker.config.api_host)
        await eventually(lambda: len(hook.received) >= count)

        async def is_empty() -> bool:
            return not await outbox.waiting()

        await eventually(is_empty)
        assert len(hook.received) == count
        return [json.loads(got.body) for got in hook.received]

    return payloads


def failed(prompt: Prompt, kind: Any, message: str) -> Result:
    failure = Failure(kind=kind, message=message)
    return Result(id=prompt.id, index=prompt.index, status="failed", model=prompt.model, input={}, error=failure)


async def test_a_finished_batch_is_summed_up_once(
    worker: Context, notified: Callable[..., Awaitable[Any]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    await open_batch(worker, CAT, DOG)
    folder = Folder(worker.config.output_dir, "night")
    for prompt in (CAT, DOG):
        result = failed(prompt, "model_error", f"CUDA out of memory at 0x{prompt.index}1f2e3d4c5b6a")
        folder.prompt(prompt.id).mkdir()
        (folder.prompt(prompt.id) / "prediction.json").write_text(result.model_dump_json())
        await settle(Work(worker, SHARD, prompt), result, 0)
    for _ in range(2):
        await finish_batch(worker, SHARD)
    (payload,) = await notified()
    data = payload["data"]
    assert payload["type"] == "batch.finished"
    assert (data["batch"], data["state"], data["total"], data["failed"]) == ("night", "finished", 2, 2)
    assert [(one["kind"], one["count"]) for one in data["reasons"]] == [("model_error", 2)]
    assert data["folder"] == str(folder.path.absolute())
    assert data["next"] == "python -m jobs retry night"
    assert data["title"] == "night is finished: 0 of 2 succeeded, 2 failed"


async def test_pauses_by_hand_within_minutes_are_one_event_that_names_who_and_why(
    worker: Context, notified: Callable[..., Awaitable[Any]]
) -> None:
    alarms = Alarms(worker)
    for reason in ("lunch", "tea"):
        await worker.account.pause(reason, "ada@ws")
        await worker.account.pause("late", "bob@ws")
        await alarms.check()
        await worker.account.resume()
        await alarms.check()
    (payload,) = await notified()
    assert payload["type"] == "account.paused"
    assert payload["data"]["title"] == "everything is paused by ada@ws"
    assert payload["data"] | {"by": "hand", "person": "ada@ws", "reason": "lunch"} == payload["data"]
    assert payload["data"]["next"] == "python -m jobs resume"


async def test_a_pause_by_a_worker_is_one_event(worker: Context, notified: Callable[..., Awaitable[Any]]) -> None:
    alarms = Alarms(worker)
    for _ in range(2):
        await worker.account.pause_for("402", "no credit is left (HTTP 402)")
        await alarms.check()
        await worker.account.lift("402")
    (payload,) = await notified()
    assert payload["type"] == "account.paused"
    assert "no credit is left" in payload["data"]["reason"]
    assert payload["data"]["by"] == "402"


async def test_low_credit_and_a_backlog_are_events(worker: Context, notified: Callable[..., Awaitable[Any]]) -> None:
    now = (await worker.redis.time())[0]
    await worker.redis.hset(keys.limit(worker.config.api_host, "create"), "reduced", (now + 60) * 1_000_000)
    await worker.account.report_trouble("the disk is full", 60)
    for _ in range(2):
        await Alarms(worker).check()
    paused, backlog = sorted(await notified(2), key=lambda payload: str(payload["type"]))
    assert paused["data"]["by"] == "low_credit"
    assert (backlog["type"], backlog["data"]["reason"]) == ("outputs.endangered", "the disk is full")


async def test_a_budget_that_is_used_up_is_one_event(
    worker: Context, notified: Callable[..., Awaitable[Any]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    await open_batch(worker, CAT, DOG, total=3)
    await worker.batches.set_budget("night", 5, None)
    for prompt in (CAT, DOG):
        await settle(Work(worker, SHARD, prompt), failed(prompt, "over_budget", "the budget is spent"), 0)
    (payload,) = await notified()
    assert payload["type"] == "batch.over_budget"
    assert payload["data"]["next"] == "python -m jobs retry night --max-predictions N"
    assert payload["data"]["left"] == 2


async def test_a_dead_letter_is_an_event(
    worker: Context, notified: Callable[..., Awaitable[Any]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    await open_batch(worker, CAT)
    for _ in range(2):
        await dead_letter(worker, JobId.parse("night:0:0"), "its payload is gone from Redis")
    (payload,) = await notified()
    assert payload["type"] == "batch.dead_letter"
    assert payload["data"]["job"] == "night:0:0"


async def test_without_receivers_nothing_is_posted(
    config: Config, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    worker = await open_worker()
    await open_batch(worker, CAT)
    await worker.account.pause_for("402", "no credit")
    await worker.batches.settle("night", 0, "succeeded")
    await Alarms(worker).check()
    await finish_batch(worker, SHARD)
    assert (await worker.batches.get("night")).finished_at
    pattern = f"{keys.PREFIX}*{config.api_host}*"
    found = [key.decode() async for key in worker.redis.scan_iter(pattern)]
    assert [key for key in found if "event:" in key or "deliver" in key or "episode" in key] == []


async def test_a_changed_file_counts_at_once_and_a_broken_one_changes_nothing(
    worker: Context, hook: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    file = worker.config.notify
    before = file.read_text()
    file.write_text("[[receiver]")
    await worker.notifier.look()
    assert [receiver.name for receiver in worker.notifier.receivers] == ["ops"]
    assert "its earlier receivers stay" in caplog.text
    file.write_text(f'{before}[[receiver]]\nname = "b"\nwebhook = "{hook.url}"\n')
    await worker.notifier.look()
    assert [receiver.name for receiver in worker.notifier.receivers] == ["ops", "b"]
