from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from jobs.account.account import Account
from jobs.config import Config
from jobs.errors import ConfigError
from jobs.operations.operations import Operations
from jobs.redis_client import keys
from jobs.redis_client.client import connect
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.waits import Wait, Waits
from jobs.wire import Batch, Prompt, Shard
from tests.integration.redis_stats import script_calls
from worker.context import Context, Work
from worker.limits.circuit_breaker import CircuitBreaker, ModelOutcome, ModelPaused
from worker.limits.rate_limiter import RateLimiter
from worker.limits.request_gate import RequestGate
from worker.limits.token_check import TokenCheck
from worker.prompt.predict import predict

CAT, DOG = "simulator/cat", "simulator/dog"
LONG, SHORT = 900.0, 0.05
Workers = Callable[..., Any]


@pytest.fixture
def config(redis_url: str) -> Config:
    return Config.load(redis_url=redis_url, breaker_failures=0.04, breaker_pause=LONG)


@pytest.fixture
async def workers(config: Config, redis_url: str) -> AsyncIterator[Workers]:
    """`await workers(2, breaker_pause=1)`: breakers of as many workers, each with a client of its own, running."""
    async with AsyncExitStack() as stack:

        async def start(count: int = 2, **changes: Any) -> list[CircuitBreaker]:
            found = []
            for _ in range(count):
                client = connect(redis_url)
                stack.push_async_callback(client.aclose)
                found.append(CircuitBreaker(client, config.model_copy(update=changes)))
                await stack.enter_async_context(found[-1].running())
            return found

        yield start


async def spoil(breaker: CircuitBreaker, times: int = 3, model: str = CAT) -> None:
    for number in range(times):
        await breaker.record_outcome(model, f"night/{number}", "failed", "no  such\nfield")


def admissions(breaker: CircuitBreaker, *prompts: str, model: str = CAT) -> dict[str, asyncio.Task[None]]:
    return {prompt: asyncio.create_task(breaker.admit(model, prompt)) for prompt in prompts}


async def end(tasks: dict[str, asyncio.Task[None]]) -> None:
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


def admitted(tasks: dict[str, asyncio.Task[None]]) -> list[str]:
    return [prompt for prompt, task in tasks.items() if task.done()]


def bars(breaker: CircuitBreaker, prompt: str = "night/x", model: str = CAT) -> bool:
    try:
        breaker.check(model, prompt)
    except ModelPaused:
        return True
    return False


async def paused(redis: Redis, config: Config) -> dict[str, str]:
    return await Account(redis, config.api_host).paused_models()


async def state(redis: Redis, config: Config, model: str = CAT) -> dict[str, Any]:
    found = await redis.hget(keys.paused_models(config.api_host), model)
    return dict(json.loads(found)) if found else {}


class Rule:
    """The trip rule, plainly."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.window: deque[str] = deque(maxlen=50)
        self.tripped = False

    def hear(self, outcome: str) -> None:
        if self.tripped or outcome == "ignored":
            return
        self.window.append(outcome)
        self.tripped = self.window.count("failed") > self.share * 50


OUTCOMES = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.sampled_from(["succeeded", "failed", "ignored"]), st.integers(1, 20)),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outcomes=OUTCOMES, share=st.sampled_from([0.02, 0.2, 0.5, 1.0]))
async def test_a_model_is_paused_when_the_rule_says_so(
    redis: Redis, config: Config, outcomes: list[tuple[int, ModelOutcome, int]], share: float
) -> None:
    await redis.flushdb()
    changed = config.model_copy(update={"breaker_failures": share})
    breakers, rule = [CircuitBreaker(redis, changed), CircuitBreaker(redis, changed)], Rule(share)
    queues: list[list[str]] = [[], []]
    for number, outcome, times in outcomes:
        for _ in range(times):
            await breakers[number].record_outcome(CAT, "night/x", outcome)
            queues[number].append(outcome)
            if outcome == "failed":  # told at once, with what succeeded before
                for one in queues[number]:
                    rule.hear(one)
                queues[number].clear()
            assert bool(await paused(redis, config)) == rule.tripped
            if rule.tripped:
                assert bars(breakers[number])
                return


async def test_26_of_50_failures_pause_a_model_for_all_workers(
    redis: Redis, config: Config, workers: Workers, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker.limits.circuit_breaker")
    one, other = await workers(breaker_failures=0.5)
    for number in range(25):
        await (one, other)[number % 2].record_outcome(CAT, "night/x", "failed", "out of luck")
    assert not await paused(redis, config)
    await one.record_outcome(CAT, "night/x", "failed", "out of luck")
    assert bars(one)
    await eventually(lambda: bars(other))
    assert not bars(other, model=DOG)
    await other.admit(DOG, "night/y")
    (reason,) = (await paused(redis, config)).values()
    assert "26 of its last 26 predictions failed, the last one with: out of luck. One prompt tries it again" in reason
    assert [record.message for record in caplog.records] == [f"! {reason}"], "from the worker that heard the last one"


async def test_one_probe_of_all_workers_reopens_a_model(
    redis: Redis, config: Config, workers: Workers, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker.limits.circuit_breaker")
    one, other = await workers(breaker_pause=SHORT)
    await spoil(one)
    await eventually(lambda: bars(other))
    here, there = admissions(one, "night/a", "night/b"), admissions(other, "night/c", "night/d")
    tasks = {**here, **there}
    (probe,) = await eventually(lambda: admitted(tasks))
    who = one if probe in here else other
    who.check(CAT, probe)
    (reason,) = (await paused(redis, config)).values()
    assert f"{probe} tries it now".casefold() in reason.casefold()
    for breaker in (one, other):
        for outcome in ("succeeded", "failed", "ignored"):
            await breaker.record_outcome(CAT, "night/z", outcome)  # created before the pause: it tells nothing now
        await breaker.record_outcome(DOG, "night/y", "failed")  # has all be told at once
    assert (await state(redis, config))["probe"] == probe
    assert await paused(redis, config)
    assert admitted(tasks) == [probe]
    await who.record_outcome(CAT, probe, "succeeded")
    await asyncio.gather(*tasks.values())
    assert not await paused(redis, config)
    assert [record.message for record in caplog.records[1:]] == [
        f"model {CAT}: {probe} is sent as a probe",
        f"model {CAT} works again",
    ]
    await spoil(one, 2)
    assert not await paused(redis, config), "its history is empty"


async def test_each_probe_that_fails_doubles_the_pause(
    redis: Redis, config: Config, workers: Workers, eventually: Callable[..., Any]
) -> None:
    (breaker,) = await workers(1, breaker_pause=SHORT)
    await spoil(breaker)
    for pause in (100, 200):
        tasks = admissions(breaker, "night/a", "night/b")
        (probe,) = await eventually(lambda tasks=tasks: admitted(tasks))
        await breaker.record_outcome(CAT, probe, "failed", "again")
        found = await state(redis, config)
        assert (found["pause"], found["probe"], found["message"]) == (pause, "", "again")
        await end(tasks)


async def test_a_pause_is_never_longer_than_fifteen_minutes(redis: Redis, config: Config, workers: Workers) -> None:
    (breaker,) = await workers(1)
    await spoil(breaker)
    await redis.hset(keys.paused_models(config.api_host), CAT, json.dumps({**await state(redis, config), "next": 0}))
    await breaker.admit(CAT, "night/a")
    await breaker.record_outcome(CAT, "night/a", "failed")
    assert (await state(redis, config))["pause"] == 900_000


async def test_a_probe_that_tells_nothing_makes_room_for_another(
    redis: Redis, config: Config, workers: Workers
) -> None:
    (breaker,) = await workers(1, breaker_pause=SHORT)
    await spoil(breaker)
    await breaker.admit(CAT, "night/a")
    await breaker.record_outcome(CAT, "night/a", "ignored")
    assert (await state(redis, config))["pause"] == 50
    await breaker.admit(CAT, "night/b")
    assert bars(breaker, "night/a")


async def test_the_probe_of_a_dead_worker_is_the_probe_of_the_next(
    redis: Redis, config: Config, workers: Workers
) -> None:
    dead, other = await workers(breaker_pause=SHORT)
    await spoil(dead)
    await dead.admit(CAT, "night/a")
    await other.record_outcome(DOG, "night/y", "failed")  # has it look
    await other.admit(CAT, "night/a")
    await other.record_outcome(CAT, "night/a", "succeeded")
    assert not await paused(redis, config)


async def test_a_probe_that_is_silent_for_too_long_is_replaced(redis: Redis, config: Config, workers: Workers) -> None:
    (breaker,) = await workers(1, breaker_pause=SHORT)
    await spoil(breaker)
    await breaker.admit(CAT, "night/a")
    found = await state(redis, config)
    found["since"] -= (config.deadline + 301) * 1000
    await redis.hset(keys.paused_models(config.api_host), CAT, json.dumps(found))
    await breaker.admit(CAT, "night/b")
    await breaker.record_outcome(CAT, "night/a", "succeeded")
    assert await paused(redis, config), "it is no longer the probe"


async def test_the_probe_of_a_deleted_batch_makes_room_for_another(
    redis: Redis, config: Config, workers: Workers
) -> None:
    await Batches(redis).open(Batch("night", "b1", config.api_host, 1.0, 2, 0, 1.0))
    (breaker,) = await workers(1, breaker_pause=SHORT)
    await spoil(breaker)
    await breaker.admit(CAT, "night/a")
    before = await state(redis, config)
    await Operations(config, redis).delete("night", force=True)
    assert await state(redis, config) == {**before, "probe": ""}
    await breaker.admit(CAT, "day/a")


async def test_a_probe_that_is_stopped_makes_room_for_another(workers: Workers) -> None:
    one, other = await workers(breaker_pause=SHORT)
    await spoil(one)
    await one.admit(CAT, "night/a")
    one.give_up_probe(CAT, "night/b")
    one.give_up_probe(CAT, "night/a")
    await other.admit(CAT, "day/a")


async def test_a_canceled_waiter_is_no_probe(workers: Workers, eventually: Callable[..., Any]) -> None:
    (breaker,) = await workers(1, breaker_pause=SHORT)
    await spoil(breaker)
    tasks = admissions(breaker, "night/a", "night/b")
    await asyncio.sleep(0)
    tasks.pop("night/a").cancel()
    assert await eventually(lambda: admitted(tasks)) == ["night/b"]


async def test_probes_go_from_batch_to_batch(workers: Workers, eventually: Callable[..., Any]) -> None:
    (breaker,) = await workers(1, breaker_pause=SHORT)
    await spoil(breaker)
    tasks = admissions(breaker, "bad/a", "bad/b", "bad/c", "good/a", "other/a", "good/b")
    tried = []
    for _ in range(5):
        (probe,) = await eventually(lambda: admitted(tasks))
        await tasks.pop(probe)
        tried.append(probe)
        await breaker.record_outcome(CAT, probe, "ignored")
    assert tried == ["bad/a", "good/a", "other/a", "bad/b", "good/b"]
    await end(tasks)


async def test_a_model_has_worked_once_a_prediction_of_it_ended_anywhere(workers: Workers) -> None:
    one, other = await workers(breaker_pause=SHORT)
    await one.record_outcome(CAT, "night/a", "ignored")
    assert not await one.has_worked(CAT)
    await one.record_outcome(CAT, "night/a", "succeeded")
    assert await one.has_worked(CAT)
    await spoil(one)
    assert await other.has_worked(CAT), "also while it is paused"
    assert not await other.has_worked(DOG)


async def test_an_open_model_costs_one_call_a_second(
    redis: Redis, config: Config, workers: Workers, eventually: Callable[..., Any]
) -> None:
    (breaker,) = await workers(1)
    await eventually(lambda: script_calls(redis))
    before = await script_calls(redis)
    for number in range(2000):
        await breaker.admit(CAT, f"night/{number}")
        breaker.check(CAT, f"night/{number}")
        await breaker.record_outcome(CAT, f"night/{number}", "succeeded")
    assert await script_calls(redis) <= before + 1

    async def told() -> bool:
        return bool(await redis.hget(keys.breaker(config.api_host), CAT) == b"0 " + b"s" * 50)

    await eventually(told)


async def test_a_report_whose_answer_was_lost_counts_once(
    redis: Redis, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = CircuitBreaker(redis, config)
    await spoil(breaker, 2)
    send = redis.evalsha

    async def lossy(*arguments: Any) -> Any:
        await send(*arguments)
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(redis, "evalsha", lossy)
        with pytest.raises(ConnectionResetError):
            await breaker.record_outcome(DOG, "night/x", "failed")
    await breaker.record_outcome(DOG, "night/x", "failed")
    assert await redis.hget(keys.breaker(config.api_host), DOG) == b"0 ff"


async def test_what_was_heard_last_is_told_at_the_end(redis: Redis, config: Config) -> None:
    breaker = CircuitBreaker(redis, config)
    async with breaker.running():
        await breaker.record_outcome(CAT, "night/x", "succeeded")
    assert await redis.hget(keys.breaker(config.api_host), CAT) == b"0 s"


@asynccontextmanager
async def gate_of(redis: Redis, config: Config) -> AsyncIterator[tuple[RequestGate, CircuitBreaker]]:
    breaker = CircuitBreaker(redis, config)
    async with RateLimiter(redis, config.api_host, {"create": 6.0, "read": 600.0}) as limiter:
        account = Account(redis, config.api_host)
        token = TokenCheck(limiter, account, lambda: asyncio.sleep(0))
        gate = RequestGate(limiter, account, token)
        async with breaker.running():
            yield gate, breaker


async def test_who_waits_at_the_gate_goes_back_and_leaves_its_turn(redis: Redis, config: Config) -> None:
    made: list[str] = []

    async def create(gate: RequestGate, model: str) -> None:
        async def check() -> None:
            breaker.check(model, "night/x")

        breaker.check(model, "night/x")
        async with gate.request("create", prompt="night/x", before=check):
            made.append(model)

    async with gate_of(redis, config) as (gate, breaker):
        account = Account(redis, config.api_host)
        await account.pause("not yet")
        tasks = [asyncio.create_task(create(gate, model)) for model in (CAT, CAT, DOG)]
        await spoil(breaker)
        await account.resume()
        async with asyncio.timeout(30):  # a turn that is not given back is missing for two minutes
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in ends] == [ModelPaused, ModelPaused, type(None)]
        assert made == [DOG]
        tat = await redis.hget(keys.limit(config.api_host, "create"), "tat")
        with pytest.raises(ModelPaused):
            await create(gate, CAT)
        assert await redis.hget(keys.limit(config.api_host, "create"), "tat") == tat
        async with gate.request("read"):
            pass


async def test_status_says_why_and_resume_reopens(
    redis: Redis, config: Config, workers: Workers, cli: Callable[..., Any]
) -> None:
    await Batches(redis).open(Batch("night", "b1", config.api_host, 1.0, 2, 0, 1.0))
    one, other = await workers()
    await spoil(one)
    await spoil(one, model=DOG)
    await Waits(redis).report("night", "other", [Wait("breaker", CAT, 1), Wait("breaker", DOG, 1)])
    status = json.loads(cli("status", "night", "--json").out)
    assert status["state"] == "queued"
    assert (
        f"model {CAT} is paused: 3 of its last 3 predictions failed, the last one with: no such field"
        in status["reason"]
    )
    assert f"model {DOG} is paused" in status["reason"]
    assert "python -m jobs resume" in status["reason"]
    tasks = admissions(other, "night/a", "night/b")
    assert cli("resume").out.startswith("Resumed; ")
    await asyncio.gather(*tasks.values())
    assert not await paused(redis, config)
    assert cli("resume").out.startswith("Nothing was paused; ")


async def test_prompts_of_a_failing_model_are_kept_until_it_works(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    simulator.settings(limiter="off", predict_min=0.02, predict_max=0.05)
    simulator.control(failed={"next": 3, "text": "broken"})
    worker = await open_worker(
        replicate_base_url=simulator.url,
        replicate_api_token=SecretStr("r8_any"),
        use_file_output=False,
        poll_interval=0.05,
        max_in_flight=1,
        max_attempts=1,
        breaker_failures=0.02,
        breaker_pause=SHORT,
    )
    prompts = tuple(Prompt(n, f"p{n}", "simulator/image", {"prompt": f"{n}"}) for n in range(6))
    await open_batch(worker, *prompts)
    shard = Shard("night", "b1", 0, 0, prompts)
    await asyncio.gather(*(predict(Work(worker, shard, prompt)) for prompt in prompts))
    batch = await worker.batches.get("night")
    assert (batch.failed, batch.succeeded) == (3, 3), "two that tripped it, one probe in vain; then all others"


@pytest.mark.parametrize(
    ("setting", "value"), [("breaker_failures", 1.1), ("breaker_refusals", 0), ("breaker_pause", 901)]
)
def test_settings_have_bounds(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"BATCH_{setting.upper()}"):
        Config.load(**{setting: value})
