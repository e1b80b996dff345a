from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.notify.conditions import trial_event
from jobs.notify.delivery import CLAIM_MARGIN, Deliveries
from jobs.notify.event import Event
from jobs.notify.receiver import Outcome, Receiver
from jobs.notify.sender import Sender
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.outbox import KEEP_EVENT, Outbox
from jobs.wire import Batch
from tests.http_receiver import HttpReceiver

HOST = "api.example.com"
EVENT = Event(id="finished:b1:0:3", name="finished", at=1.5, title="night is finished", batch="night")
SOON = (0.0, 0.0, 0.0)


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis, HOST)


@pytest.fixture
async def process(outbox: Outbox) -> AsyncIterator[Callable[..., Deliveries]]:
    """`process()`: the deliveries of one more process, until the test ends."""
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(Sender.opened({}))

        def start(send: Any = sender.send, **settings: Any) -> Deliveries:
            deliveries = Deliveries(outbox, send, **settings)
            stack.push_async_callback(deliveries.stop)
            return deliveries

        yield start


async def post(outbox: Outbox, *names: str, event: Event = EVENT) -> bool:
    return await outbox.post(event.id, event.model_dump_json(), names)


def to(hook: HttpReceiver, name: str = "ops", **facts: Any) -> Receiver:
    return Receiver(name, "webhook", hook.url, **facts)


async def test_an_event_is_delivered_once_however_often_it_is_posted(
    outbox: Outbox, process: Callable[..., Deliveries]
) -> None:
    one, two = process(), process()
    async with HttpReceiver.running() as hook:
        assert [await post(outbox, "ops") for _ in range(2)] == [True, False]
        await asyncio.gather(one.finish([to(hook)], 5), two.finish([to(hook)], 5))
        assert await post(outbox, "ops") is False
        await one.finish([to(hook)], 5)
    assert [got.headers["webhook-id"] for got in hook.received] == [EVENT.message_id]
    assert await outbox.waiting() == {}
    (record,) = await outbox.records()
    assert record["delivered"]
    assert (record["receiver"], record["event"], record["tries"], record["error"]) == ("ops", "finished", 1, None)


async def test_a_failed_delivery_is_tried_again_with_the_same_id(
    outbox: Outbox, process: Callable[..., Deliveries]
) -> None:
    async with HttpReceiver.running("503 Busy", "500 Oops") as hook:
        await post(outbox, "ops")
        await process(delays=SOON).finish([to(hook)], 20)
    assert len({got.headers["webhook-id"] for got in hook.received}) == 1
    assert [record["tries"] for record in await outbox.records()] == [3, 2, 1]


async def test_it_is_given_up_after_the_last_try(
    outbox: Outbox, process: Callable[..., Deliveries], caplog: pytest.LogCaptureFixture
) -> None:
    async with HttpReceiver.running(*["503 Busy"] * 9) as hook:
        await post(outbox, "ops")
        await process(delays=SOON).finish([to(hook)], 20)
    assert len(hook.received) == len(SOON) + 1
    assert "ops could not be notified, and this is not retried: night is finished: HTTP 503" in caplog.text
    assert await outbox.waiting() == {}


async def test_retry_after_is_kept(outbox: Outbox, process: Callable[..., Deliveries]) -> None:
    async with HttpReceiver.running("429 Slow\r\nRetry-After: 600") as hook:
        await post(outbox, "ops")
        await process(delays=SOON).finish([to(hook)], 20)
    (left,) = (await outbox.waiting()).values()
    assert 500 < left <= 600
    assert len(hook.received) == 1


async def test_a_receiver_that_is_gone_gets_nothing_until_its_address_changes(
    outbox: Outbox, process: Callable[..., Deliveries]
) -> None:
    deliveries, second = process(), EVENT.model_copy(update={"id": "another"})
    async with HttpReceiver.running("410 Gone") as hook, HttpReceiver.running() as elsewhere:
        for event in (EVENT, second):
            await post(outbox, "ops", event=event)
            await deliveries.finish([to(hook)], 5)
        assert len(hook.received) == 1
        assert "it answered 410 before" in (await outbox.records())[0]["error"]
        await post(outbox, "ops", event=EVENT.model_copy(update={"id": "third"}))
        await deliveries.finish([to(elsewhere)], 5)
    assert len(elsewhere.received) == 1


async def test_a_receiver_that_hangs_holds_up_nobody(
    outbox: Outbox, process: Callable[..., Deliveries], eventually: Callable[..., Any]
) -> None:
    deliveries = process()
    async with HttpReceiver.running(None) as hook, HttpReceiver.running() as other:
        await post(outbox, "slow", "fast")
        receivers = [to(hook, "slow"), to(other, "fast")]
        await deliveries.start_due(receivers)
        await eventually(lambda: other.received and hook.received)
        await asyncio.wait_for(deliveries.stop(), 5)
    assert [delivery.partition("/")[0] for delivery in await outbox.waiting()] == ["slow"]


async def test_what_a_dead_process_had_claimed_is_delivered_by_the_next(
    outbox: Outbox, process: Callable[..., Deliveries], redis: Redis, eventually: Callable[..., Any]
) -> None:
    async with HttpReceiver.running(None) as hook:
        await post(outbox, "ops")
        dead = process()
        await dead.start_due([to(hook)])
        await eventually(lambda: hook.received)
        await dead.stop()
        ((delivery, left),) = (await outbox.waiting()).items()
        assert 0 < left <= 20 + CLAIM_MARGIN
        await redis.zadd(keys.deliveries(HOST), {delivery: time.time()})  # its claim has expired
        await process().finish([to(hook)], 10)
    first, second = hook.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [record["tries"] for record in await outbox.records()] == [2]


async def test_deliveries_of_unknown_receivers_and_lost_events_do_not_stay(
    outbox: Outbox, redis: Redis, process: Callable[..., Deliveries]
) -> None:
    async with HttpReceiver.running() as hook:
        await redis.zadd(keys.deliveries(HOST), {"ops/lost": 1.0, "nobody/old": 1.0, "nobody/new": time.time()})
        await process().finish([to(hook)], 5)
        assert set(await outbox.waiting()) == {"nobody/old", "nobody/new"}
        await post(outbox, "ops")
    assert set(await outbox.waiting()) == {"nobody/new", f"ops/{EVENT.id}"}
    assert hook.received == []
    assert KEEP_EVENT - 60 < await redis.ttl(keys.event(HOST, EVENT.id)) <= KEEP_EVENT


async def test_a_finish_is_bounded(outbox: Outbox, process: Callable[..., Deliveries]) -> None:
    async with HttpReceiver.running(None) as hook:
        await post(outbox, "ops")
        await asyncio.wait_for(process().finish([to(hook)], 0.3), 10)
    assert len(await outbox.waiting()) == 1


async def test_a_command_gets_longer_than_a_webhook(
    outbox: Outbox, process: Callable[..., Deliveries], tmp_path: Path
) -> None:
    async with HttpReceiver.running(None) as hook:
        await post(outbox, "ops", "script")
        receivers = [to(hook), Receiver("script", "command", "sleep 0.5; touch done", shell=True, timeout=60)]
        deliveries = process()
        await deliveries.start_due(receivers)
        await deliveries.finish(receivers, 0.1, 30)
    assert (tmp_path / "done").exists()
    assert [one["receiver"] for one in await outbox.records()] == ["script"]


async def test_two_rounds_at_once_start_one_delivery_to_a_receiver(
    outbox: Outbox, process: Callable[..., Deliveries], eventually: Callable[..., Any]
) -> None:
    deliveries = process()
    async with HttpReceiver.running(None) as hook:
        for number in range(3):
            await post(outbox, "ops", event=EVENT.model_copy(update={"id": str(number)}))
        await asyncio.gather(*(deliveries.start_due([to(hook)]) for _ in range(5)))
        await eventually(lambda: hook.received)
        await deliveries.stop()
    assert len(hook.received) == 1


async def test_an_event_of_a_later_version_is_left_to_others(
    outbox: Outbox, process: Callable[..., Deliveries], caplog: pytest.LogCaptureFixture
) -> None:
    async with HttpReceiver.running() as hook:
        await outbox.post("new", '{"id": "new", "name": "something_new"}', ["ops"])
        await process().finish([to(hook)], 5)
    assert "failed unexpectedly, will be retried" in caplog.text
    assert list(await outbox.waiting()) == ["ops/new"]
    assert hook.received == []


async def test_an_unexpected_error_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> Outcome:
        raise RuntimeError("secret")

    monkeypatch.setattr("jobs.notify.sender.post_webhook", fail)
    async with Sender.opened({}) as sender:
        outcome = await sender.send(Receiver("ops", "webhook", "http://x"), trial_event())
    assert outcome == Outcome("unexpected: RuntimeError")


@pytest.mark.parametrize(("settled", "finished"), [(0, False), (1, True)])
async def test_a_batch_is_finished_and_announced_in_one_step(
    outbox: Outbox, redis: Redis, config: Config, settled: int, *, finished: bool
) -> None:
    batches = Batches(redis)
    await batches.open(Batch("night", "b1", config.api_host, 1.0, 1, 0, 1.0))
    if settled:
        await batches.settle("night", 0, "succeeded")

    async def also(pipe: Any) -> None:
        await outbox.post_if_finished(pipe, EVENT.id, EVENT.model_dump_json(), ["ops"], ("night", 1234.5))

    assert await batches.finish("night", 1234.5, also) is finished
    assert len(await outbox.waiting()) == int(finished)
    assert await batches.finish("night", 1235.5, also) is False


async def test_an_episode_lasts_over_short_breaks(outbox: Outbox, redis: Redis) -> None:
    since = await outbox.begin_episode("paused:402")
    await redis.set(keys.episode(HOST, "paused:402"), since - 100)
    assert await outbox.begin_episode("paused:402") == since - 100
    assert 3500 < await redis.ttl(keys.episode(HOST, "paused:402")) <= 3600
