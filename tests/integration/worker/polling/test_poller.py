from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jobs.account.account import Account
from jobs.config import Config
from jobs.errors import NotFound
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.predictions import Page, Prediction, Replicate
from tests.integration.worker.polling.bench import Bench, open_bench
from worker.polling.poll_policy import Timing


class SimulatorBench(Bench[Replicate]):
    """One that runs, and what the simulator counts."""

    def __init__(self, bench: Bench[Replicate], simulator: Any) -> None:
        super().__init__(bench.replicate, bench.poller)
        self.simulator = simulator

    def calls(self, kind: str) -> int:
        return int(self.simulator.ledger(summary=True)["calls"].get(kind, 0))


@asynccontextmanager
async def running(
    config: Config, redis: Redis, simulator: Any, timing: Timing | None = None
) -> AsyncIterator[SimulatorBench]:
    async with open_bench(Replicate, config, redis, timing=timing) as made, made.poller.running():
        yield SimulatorBench(made, simulator)


@pytest.fixture(name="bench")
async def default_bench(config: Config, redis: Redis, simulator: Any) -> AsyncIterator[SimulatorBench]:
    simulator.settings(limiter="off", predict_min=0.2, predict_max=0.4)
    async with running(config.model_copy(update={"poll_interval": 0.1}), redis, simulator) as made:
        yield made


async def test_few_predictions_are_polled_by_id(bench: SimulatorBench) -> None:
    ended = await bench.wait(await bench.create(2))
    assert [prediction.status for prediction in ended] == ["succeeded", "succeeded"]
    assert bench.calls("list") == 0


async def test_many_predictions_are_read_from_the_list_with_few_requests(bench: SimulatorBench) -> None:
    ids = await bench.create(60, predict_time=0.5)
    ended = await bench.wait(ids)
    assert [prediction.id for prediction in ended] == ids
    assert all(prediction.output for prediction in ended)
    assert bench.calls("list") + bench.calls("get") < 60


async def test_what_the_list_does_not_show_yet_is_polled_by_id(bench: SimulatorBench) -> None:
    bench.simulator.control(list_lag={"rate": 1.0, "seconds": 600})
    ended = await bench.wait(await bench.create(8))
    assert {prediction.status for prediction in ended} == {"succeeded"}
    assert bench.calls("get") >= 8


async def test_a_list_that_is_behind_delays_but_loses_nothing(bench: SimulatorBench) -> None:
    bench.simulator.control(stale_list={"rate": 1.0, "seconds": 1})
    ended = await bench.wait(await bench.create(8))
    assert {prediction.status for prediction in ended} == {"succeeded"}


async def test_what_is_created_during_a_pass_is_not_polled_by_id(
    bench: SimulatorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This pass over the list cannot show it; the next one does."""
    read, later = bench.replicate.list, list[asyncio.Task[list[Prediction]]]()

    async def slow(**span: Any) -> Page:
        page = await read(**span)
        if len(later) < 4:
            later.append(asyncio.create_task(bench.wait(await bench.create(10, predict_time=0.5))))
            await asyncio.sleep(0)  # they wait before the page is looked at
        return page

    monkeypatch.setattr(bench.replicate, "list", slow)
    bench.simulator.settings(loose=0.0)
    await bench.wait(await bench.create(20, predict_time=1.0))
    ended = [prediction for batch in await asyncio.gather(*later) for prediction in batch]
    assert {prediction.status for prediction in ended} == {"succeeded"}
    assert bench.calls("get") < 10


async def test_a_list_that_shows_no_end_is_distrusted(config: Config, redis: Redis, simulator: Any) -> None:
    """Single GETs show that the list is behind; then all are polled by id."""
    simulator.settings(limiter="off", predict_min=0.2, predict_max=0.4)
    simulator.control(stale_list={"rate": 1.0, "seconds": 3600})
    quick = config.model_copy(update={"poll_interval": 0.1})
    async with running(quick, redis, simulator, Timing(behind=0.5)) as made, asyncio.timeout(60):
        ended = await made.wait(await made.create(12))
    assert {prediction.status for prediction in ended} == {"succeeded"}


async def test_other_programs_predictions_are_passed_over(bench: SimulatorBench) -> None:
    ours = await bench.create(6, predict_time=1.0)
    await bench.create(120)
    ended = await bench.wait(ours)
    assert [prediction.id for prediction in ended] == ours


async def test_a_prediction_that_replicate_does_not_know_is_not_found(bench: SimulatorBench) -> None:
    with pytest.raises(NotFound) as caught:
        await bench.wait(["nosuchprediction"], since=time.time() - 61)
    assert caught.value.prediction_id == "nosuchprediction"


async def test_a_new_prediction_may_not_be_known_everywhere_yet(bench: SimulatorBench) -> None:
    """Else another one is paid while this one runs on."""
    (made,) = await bench.create(1, predict_time=0.1)
    bench.simulator.control(error={"next": 5, "kinds": ["get"], "status": 404, "form": "problem"})
    (ended,) = await bench.wait([made])
    assert ended.status == "succeeded"


async def test_one_lost_prediction_does_not_keep_the_others_waiting(bench: SimulatorBench) -> None:
    ids = [*await bench.create(6), "nosuchprediction"]
    ended = await asyncio.gather(*(bench.poller.wait(id_, time.time() - 61) for id_ in ids), return_exceptions=True)
    assert [type(one) for one in ended] == [*[Prediction] * 6, NotFound]


@pytest.mark.parametrize("fault", ["error", "reset", "hang"])
async def test_polling_goes_on_after_failing_calls(
    bench: SimulatorBench, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await bench.create(6)
    bench.simulator.control(**{fault: {"next": 12, "kinds": ["get", "list"], "seconds": 0.1}})
    assert len(await bench.wait(ids)) == 6
    lost = [record for record in caplog.records if "the API does not answer" in record.message]
    assert 1 <= len(lost) <= 3, "one line a loss, not one a prediction"


async def test_a_list_that_fails_for_ever_leaves_the_gets(bench: SimulatorBench) -> None:
    bench.simulator.control(error={"rate": 1.0, "kinds": ["list"], "status": 503})
    assert len(await bench.wait(await bench.create(8))) == 8


async def test_what_nobody_expected_does_not_end_the_polling(
    bench: SimulatorBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original, times = bench.replicate.get, []

    async def odd(prediction_id: str) -> Prediction:
        times.append(1)
        if len(times) == 1:
            raise KeyError("odd")
        return await original(prediction_id)

    monkeypatch.setattr(bench.replicate, "get", odd)
    assert len(await bench.wait(await bench.create(1))) == 1
    assert "failed unexpectedly" in caplog.text


async def test_one_answer_of_not_found_is_not_believed(bench: SimulatorBench) -> None:
    (id_,) = await bench.create(1)
    bench.simulator.control(error={"next": 2, "kinds": ["get"], "status": 404})
    (ended,) = await bench.wait([id_])
    assert ended.status == "succeeded"


@pytest.mark.parametrize(("status", "count"), [(403, 1), (404, 1), (403, 8), (503, 8)])
async def test_pages_in_the_apis_place_are_waited_out(bench: SimulatorBench, status: int, count: int) -> None:
    """Whatever they say: no prediction is lost, and none is missing."""
    ids = await bench.create(count)
    page = {"status": status, "form": "html", "retry_after": 1}
    bench.simulator.control(error={"next": 6, "kinds": ["get", "list"], **page})
    ended = await bench.wait(ids, since=time.time() - 100)
    assert {one.status for one in ended} == {"succeeded"}


async def test_a_throttled_poll_holds_back_and_goes_on(bench: SimulatorBench) -> None:
    ids = await bench.create(2)
    bench.simulator.control(throttle={"next": 1, "kinds": ["get"], "seconds": 1, "form": "field"})
    assert len(await bench.wait(ids)) == 2


async def test_a_refused_token_pauses_the_account(bench: SimulatorBench, redis: Redis, config: Config) -> None:
    ids = await bench.create(1)
    bench.simulator.control(unauthorized={"next": 3, "kinds": ["get", "account"]})
    assert len(await bench.wait(ids)) == 1
    assert "(HTTP 401)" in str(await Account(redis, config.api_host).pause_reason())


async def test_an_unknown_status_is_waited_out(bench: SimulatorBench) -> None:
    bench.simulator.control(unknown_status={"next": 1, "text": "pondering", "seconds": 0.5})
    (ended,) = await bench.wait(await bench.create(1))
    assert ended.status == "succeeded"


async def test_an_overdue_prediction_is_given_back_as_it_is(config: Config, redis: Redis, simulator: Any) -> None:
    short = config.model_copy(update={"deadline": 5, "poll_interval": 0.1})
    async with running(short, redis, simulator) as made:
        ids = await made.create(6, predict_time=60)
        ended = await made.wait(ids, since=time.time() - 66)
    assert all(not prediction.terminal for prediction in ended)


async def test_nobody_waits_for_a_cancelled_waiter(bench: SimulatorBench, eventually: Any) -> None:
    (id_,) = await bench.create(1, predict_time=30)
    waiting = asyncio.create_task(bench.poller.wait(id_, time.time()))
    await eventually(lambda: bench.poller.in_flight == 1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert bench.poller.in_flight == 0


async def test_the_read_budget_is_kept(config: Config, redis: Redis, simulator: Any) -> None:
    slow = config.model_copy(update={"reads_per_minute": 120.0, "poll_interval": 0.05})
    simulator.settings(limiter="sliding", limit_reads=4, limit_gets=4, limit_window=1.0, limit_creates=1000)
    async with running(slow, redis, simulator) as made:
        ids = await made.create(3)
        await made.wait(ids)
    assert simulator.ledger(summary=True)["throttled"] == 0
