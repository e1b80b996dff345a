from __future__ import annotations

import time
from pathlib import Path

import pytest

from jobs.account.account import Account
from jobs.batch_folder.folder import Folder
from jobs.events.event import Event, keep_events, read_events
from jobs.events.log import MOST, read, record
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Spent
from jobs.wire import Batch, Failure, Result

CATS = Batch("cats", "id-1", "api", 1000.0, 3, 0, 1.0)


@pytest.fixture
async def batches(redis: Redis) -> Batches:
    batches = Batches(redis)
    await batches.open(CATS)
    return batches


def failure(prompt: str, message: str) -> Spent:
    result = Result(
        id=prompt,
        index=0,
        status="failed",
        attempts=1,
        prediction_id=None,
        model="a/b",
        version=None,
        input={},
        error=Failure(kind="model_error", message=message),
        saved_at="",
    )
    return Spent.of(result)


async def kinds(redis: Redis) -> list[str]:
    return [event.event for event in await read(redis, "cats")]


async def test_events_are_read_in_order_with_their_times(batches: Batches, redis: Redis) -> None:
    before = int(time.time())
    await record(redis, "cats", Event(event="enqueued", message="3 prompts"))
    await batches.settle("cats", 1, "failed", spent=failure("two", "out of memory after 12 s\nTraceback"))
    await batches.request_cancel("cats")
    enqueued, failed, canceled = await read(redis, "cats", before)
    assert (enqueued.event, enqueued.message) == ("enqueued", "3 prompts")
    assert (failed.prompt, failed.kind, failed.model) == ("two", "model_error", "a/b")
    assert failed.message == "out of memory after 12 s"
    assert canceled.event == "canceled"
    assert enqueued.at <= failed.at <= canceled.at
    assert await read(redis, "cats", time.time() + 60) == []


async def test_a_failure_is_recorded_once_and_a_success_never(batches: Batches, redis: Redis) -> None:
    for _ in range(3):
        await batches.settle("cats", 0, "succeeded", spent=Spent(1))
        await batches.settle("cats", 1, "failed", spent=failure("two", "no"))
    assert await kinds(redis) == ["failed"]


async def test_failures_do_not_push_out_what_else_happened(batches: Batches, redis: Redis) -> None:
    await record(redis, "cats", Event(event="enqueued"))
    async with redis.pipeline() as pipe:
        for _ in range(3 * MOST):
            pipe.xadd(keys.failures("cats"), {"event": Event(event="failed").text})
        await pipe.execute()
    await batches.settle("cats", 1, "failed", spent=failure("two", "no"))
    found = await kinds(redis)
    assert found[0] == "enqueued"
    assert MOST <= len(found) < 2 * MOST


async def test_a_pause_is_recorded_in_every_unfinished_batch_of_the_account(batches: Batches, redis: Redis) -> None:
    await batches.open(Batch("elsewhere", "id-2", "other", 1000.0, 3, 0, 1.0))
    await batches.open(Batch("done", "id-3", "api", 1000.0, 0, 0, 1.0))
    await batches.finish("done")
    account = Account(redis, "api")
    for _ in range(2):
        await account.pause("lunch")
    await account.resume()
    assert [(event.event, event.message) for event in await read(redis, "cats")] == [
        ("paused", "lunch"),
        ("resumed", "a person lifted the pause"),
    ]
    assert await read(redis, "elsewhere") == await read(redis, "done") == []


async def test_only_limits_that_change_are_recorded(batches: Batches, redis: Redis) -> None:
    for _ in range(2):
        await batches.set_budget("cats", 10, 1_500_000, 4)
    await batches.set_budget("cats", 10, None, 5)
    messages = [event.message for event in await read(redis, "cats")]
    assert messages == ["--max-predictions 10, --max-cost 1.5, --max-in-flight 4", "--max-in-flight 5"]


@pytest.mark.usefixtures("batches")
async def test_a_lost_worker_is_recorded_once_for_all_its_shards(redis: Redis) -> None:
    letters = DeadLetters(redis)
    for run in ("host:1:aa", "host:2:bb"):
        for number in range(2):
            await letters.begin(JobId("cats", number, 0), run)
    assert [(event.event, event.worker) for event in await read(redis, "cats")] == [("worker_lost", "host:1")]


async def test_a_log_that_cannot_be_written_stops_nothing(batches: Batches, redis: Redis) -> None:
    for key in (keys.events("cats"), keys.failures("cats")):
        await redis.set(key, "no stream")
    await record(redis, "cats", Event(event="enqueued"))
    assert await batches.settle("cats", 1, "failed", spent=failure("two", "no"))
    await DeadLetters(redis).begin(JobId("cats", 0, 0), "host:1:aa")
    assert await DeadLetters(redis).begin(JobId("cats", 0, 0), "host:2:bb") == ""
    assert (await batches.get("cats")).failed == 1


async def test_a_deleted_batch_leaves_no_log(batches: Batches, redis: Redis) -> None:
    await record(redis, "cats", Event(event="enqueued"))
    await batches.settle("cats", 1, "failed", spent=failure("two", "no"))
    await batches.delete("cats")
    assert await read(redis, "cats") == []


async def test_events_of_a_newer_version_are_left_out(batches: Batches, redis: Redis) -> None:
    await redis.xadd(keys.events("cats"), {"event": '{"event": "teleported"}'})
    await batches.request_cancel("cats")
    assert await kinds(redis) == ["canceled"]


async def test_a_folder_keeps_the_events_of_all_generations(batches: Batches, redis: Redis, tmp_path: Path) -> None:
    folder = Folder(tmp_path, "cats")
    folder.path.mkdir()
    await record(redis, "cats", Event(event="enqueued"))
    keep_events(folder, await read(redis, "cats"), fsync=False)
    await redis.delete(keys.events("cats"))
    with folder.events.open("a") as file:
        file.write("torn\n")
    await batches.request_cancel("cats")
    for _ in range(2):
        keep_events(folder, await read(redis, "cats"), fsync=False)
    assert [event.event for event in read_events(folder)] == ["enqueued", "canceled"]
