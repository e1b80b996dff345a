"""Several workers of one account: the leader polls for all; whatever happens to it, every worker gets its results."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from jobs.config import Config
from jobs.errors import NotFound, NotSent
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.predictions import Page, Prediction, Replicate
from tests.integration.worker.polling.bench import Bench, open_bench
from worker.polling import leader
from worker.polling.poll_policy import Timing

NO_SAMPLES = Timing(sample=10**9)
Start = Callable[..., Awaitable["Party"]]


class CountingReplicate(Replicate):
    """Counts the requests for a status; `broken`: none is sent, `strange`: its token is of another account."""

    requests, broken, strange = 0, False, False

    def _count(self) -> None:
        self.requests += 1
        if self.broken:
            raise NotSent("no connection")

    async def get(self, prediction_id: str) -> Prediction:
        self._count()
        if self.strange:
            raise NotFound("unknown here", status=404, prediction_id=prediction_id)
        return await super().get(prediction_id)

    async def list(self, *, since: float, until: float | None = None, cursor: str | None = None) -> Page:
        self._count()
        page = await super().list(since=since, until=until, cursor=cursor)
        return Page((), None) if self.strange else page


class Party(Bench[CountingReplicate]):
    """One worker's poller, which runs until it leaves or dies."""

    def __init__(self, bench: Bench[CountingReplicate], running: AsyncExitStack) -> None:
        super().__init__(bench.replicate, bench.poller)
        self._running = running

    async def leave(self) -> None:
        """End in order."""
        await self._running.aclose()

    async def die(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """End without stepping down, as a killed process does."""
        monkeypatch.setattr(self.poller.leader, "step_down", asyncio.Event().wait)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.leave()


@asynccontextmanager
async def party(config: Config, redis: Redis, who: str, timing: Timing) -> AsyncIterator[Party]:
    async with open_bench(CountingReplicate, config, redis, who, timing) as bench, AsyncExitStack() as running:
        await running.enter_async_context(bench.poller.running())
        yield Party(bench, running)


@pytest.fixture
async def start(config: Config, redis: Redis, simulator: Any) -> AsyncIterator[Start]:
    simulator.settings(limiter="off", predict_min=0.2, predict_max=0.6)
    quick = config.model_copy(update={"poll_interval": 0.1})
    async with AsyncExitStack() as stack:

        async def begin(who: str, timing: Timing = NO_SAMPLES, **settings: Any) -> Party:
            return await stack.enter_async_context(party(quick.model_copy(update=settings), redis, who, timing))

        yield begin


async def until_leader(one: Party, eventually: Any) -> None:
    await eventually(lambda: one.poller.leader.is_leader)


async def test_the_leader_polls_for_all(start: Start, eventually: Any) -> None:
    one, two, three = await start("one"), await start("two"), await start("three")
    waiting = asyncio.create_task(one.wait(await one.create(20, predict_time=2.0)))
    await until_leader(one, eventually)
    ids = await two.create(20), await three.create(3)
    ended = await asyncio.gather(two.wait(ids[0]), three.wait(ids[1]))
    assert [[prediction.id for prediction in each] for each in ended] == list(ids)
    assert all(prediction.status == "succeeded" and prediction.output for each in ended for prediction in each)
    assert (two.replicate.requests, three.replicate.requests) == (0, 0)
    await waiting
    assert one.replicate.requests < 43


async def test_what_is_private_is_polled_by_its_own_worker(start: Start, eventually: Any) -> None:
    """Its answer may hold a secret, and messages lie in Redis."""
    one, two = await start("one"), await start("two")
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=3)))
    await until_leader(one, eventually)
    private = asyncio.create_task(two.wait(await two.create(2, predict_time=1), is_private=True))
    public = asyncio.create_task(two.wait(await two.create(3, predict_time=1)))
    await eventually(lambda: len(one.poller.leader.others) == 3)
    assert [prediction.status for prediction in await private] == ["succeeded"] * 2
    assert len(await public) == 3
    assert two.replicate.requests >= 2
    await held


async def test_a_leader_whose_own_predictions_have_ended_polls_for_the_others(start: Start, eventually: Any) -> None:
    one, two = await start("one"), await start("two")
    short = asyncio.create_task(one.wait(await one.create(1, predict_time=0.5)))
    await until_leader(one, eventually)
    waiting = asyncio.create_task(two.wait(await two.create(2, predict_time=1.5)))
    await short
    assert len(await waiting) == 2
    assert two.replicate.requests == 0
    await eventually(lambda: not one.poller.leader.is_leader)


async def test_another_worker_takes_over_from_a_leader_that_dies(
    start: Start, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = replace(NO_SAMPLES, leader=1.0)
    one, two, three = (
        await start("one", timing),
        await start("two", timing),
        await start("three", timing),
    )
    lost = asyncio.create_task(one.wait(await one.create(5, predict_time=60)))
    await until_leader(one, eventually)
    waiting = [asyncio.create_task(each.wait(await each.create(10, predict_time=1.0))) for each in (two, three)]
    await eventually(lambda: len(one.poller.leader.others) == 20)
    await one.die(monkeypatch)
    before = one.replicate.requests
    assert [len(each) for each in await asyncio.gather(*waiting)] == [10, 10]
    assert one.replicate.requests == before
    assert two.replicate.requests + three.replicate.requests > 0
    lost.cancel()


async def test_a_leader_that_stops_is_succeeded_at_once(
    start: Start, eventually: Any, redis: Redis, config: Config
) -> None:
    timing = replace(NO_SAMPLES, leader=3600.0)
    one, two = await start("one", timing), await start("two", timing)
    lost = asyncio.create_task(one.wait(await one.create(5, predict_time=60)))
    await until_leader(one, eventually)
    waiting = asyncio.create_task(two.wait(await two.create(10, predict_time=0.5)))
    await one.leave()
    assert len(await waiting) == 10
    assert await redis.get(keys.lease(f"sweeper:{config.api_host}")) in (b"two", None)
    lost.cancel()


async def test_a_message_that_is_lost_is_sent_again(
    start: Start, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = replace(NO_SAMPLES, request_again=0.5)
    one, two = await start("one", timing), await start("two", timing)
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=5)))
    await until_leader(one, eventually)
    apply, lost = two.poller.leader._apply, list[bytes]()  # noqa: SLF001 - as a lost message

    def lose_first(own: Any, inbox: list[bytes]) -> None:
        if inbox and len(lost) < 2:
            lost.extend(inbox)
        else:
            apply(own, inbox)

    monkeypatch.setattr(two.poller.leader, "_apply", lose_first)
    assert len(await two.wait(await two.create(2))) == 2
    assert len(lost) >= 2
    assert two.replicate.requests == 0
    await held


async def test_a_leader_that_publishes_nothing_is_worked_around(start: Start, redis: Redis, config: Config) -> None:
    await redis.set(keys.lease(f"sweeper:{config.api_host}"), "silent")
    one = await start("one", Timing(behind=0.5))
    async with asyncio.timeout(60):
        assert len(await one.wait(await one.create(8))) == 8
    assert await redis.get(keys.lease(f"sweeper:{config.api_host}")) == b"silent"


async def test_a_leader_that_cannot_reach_the_api_steps_down(start: Start, eventually: Any) -> None:
    timing = replace(NO_SAMPLES, step_down=0.3)
    one, two = await start("one", timing), await start("two", timing)
    ids = await one.create(5, predict_time=1.0)
    one.replicate.broken = True
    waiting = asyncio.create_task(one.wait(ids))
    await until_leader(one, eventually)
    async with asyncio.timeout(60):
        assert len(await two.wait(await two.create(5, predict_time=1.5))) == 5
        assert len(await waiting) == 5
    assert two.replicate.requests > 0


async def test_only_the_own_worker_gives_up_a_prediction_that_replicate_does_not_know(
    start: Start, eventually: Any
) -> None:
    one, two = await start("one"), await start("two")
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=3)))
    await until_leader(one, eventually)
    with pytest.raises(NotFound) as caught:
        await two.wait(["nosuchprediction"], since=time.time() - 61)
    assert caught.value.prediction_id == "nosuchprediction"
    assert two.replicate.requests >= 3
    await held


async def test_a_leader_of_another_account_loses_no_predictions(start: Start, eventually: Any) -> None:
    one, two = await start("one"), await start("two")
    ids = await one.create(1, predict_time=2)
    held = asyncio.create_task(one.wait(ids))
    await until_leader(one, eventually)
    one.replicate.strange = True
    (ended,) = await two.wait(await two.create(1, predict_time=1), since=time.time() - 61)
    assert ended.status == "succeeded"
    one.replicate.strange = False
    await held


async def test_what_is_overdue_for_the_leader_may_not_be_overdue_for_its_own_worker(
    start: Start, eventually: Any
) -> None:
    one, two = await start("one", deadline=5), await start("two")
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=3)))
    await until_leader(one, eventually)
    (ended,) = await two.wait(await two.create(1, predict_time=2), since=time.time() - 70)
    assert ended.status == "succeeded"
    await held


async def test_a_prediction_too_large_for_a_message_is_fetched_by_its_own_worker(start: Start, eventually: Any) -> None:
    one, two = await start("one"), await start("two")
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=3)))
    await until_leader(one, eventually)
    (ended,) = await two.wait(await two.create(1, prompt="x" * leader.LONGEST_MESSAGE))
    assert ended.status == "succeeded"
    assert two.replicate.requests == 1
    await held


async def test_what_nobody_waits_for_any_more_is_forgotten(start: Start, eventually: Any) -> None:
    timing = replace(NO_SAMPLES, forget=0.5)
    one, two = await start("one", timing), await start("two", timing)
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=3)))
    await until_leader(one, eventually)
    waiting = asyncio.create_task(two.wait(await two.create(5, predict_time=60)))
    await eventually(lambda: len(one.poller.leader.others) == 5)
    waiting.cancel()
    await eventually(lambda: not one.poller.leader.others)
    await held


async def test_a_message_for_a_dead_worker_expires(start: Start, redis: Any, config: Config, eventually: Any) -> None:
    one = await start("one")
    held = asyncio.create_task(one.wait(await one.create(5, predict_time=2)))
    await until_leader(one, eventually)
    (id_,) = await one.create(1)
    await redis.rpush(keys.asked(config.api_host), f"dead 1.5 {id_}")
    box = keys.answered(config.api_host, "dead")
    (message,) = await eventually(lambda: redis.lrange(box, 0, -1))
    assert json.loads(message)["raw"]["status"] == "succeeded"
    assert 0 < await redis.ttl(box) <= 60
    await held
