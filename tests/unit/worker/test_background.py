from __future__ import annotations

import asyncio
import logging
import math

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from jobs.errors import BatchError
from worker.background import every, finish_despite_cancel


class Steps:
    """Raises or returns what it is given, one a step; then rests for ever."""

    def __init__(self, *outcomes: Exception | float | None) -> None:
        self._outcomes = list(outcomes)
        self.taken = 0
        self.over = asyncio.Event()

    async def take(self) -> float | None:
        self.taken += 1
        outcome = self._outcomes.pop(0) if self._outcomes else math.inf
        if outcome == math.inf:
            self.over.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def run(*outcomes: Exception | float | None) -> Steps:
    steps = Steps(*outcomes)
    async with every(0, steps.take):
        await asyncio.wait_for(steps.over.wait(), 10)
    return steps


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_step_says_when_the_next_is_due() -> None:
    assert (await run(None, 0.0, None)).taken == 4


async def test_a_step_is_not_taken_before_its_time() -> None:
    steps, others = Steps(3600.0, None), Steps(*[None] * 20)
    async with every(0, steps.take), every(0, others.take):
        await asyncio.wait_for(others.over.wait(), 10)
    assert steps.taken == 1


async def test_a_wake_up_cuts_a_rest_short() -> None:
    steps, wake = Steps(3600.0), asyncio.Event()
    async with every(3600, steps.take, wake=wake):
        await asyncio.sleep(0)
        assert steps.taken == 1
        wake.set()
        await asyncio.wait_for(steps.over.wait(), 10)
    assert steps.taken == 2


async def test_a_wake_up_during_a_step_is_not_lost() -> None:
    steps, wake = Steps(3600.0), asyncio.Event()

    async def step() -> float | None:
        if not steps.taken:
            wake.set()
        return await steps.take()

    async with every(3600, step, wake=wake):
        await asyncio.wait_for(steps.over.wait(), 10)
    assert steps.taken == 2


@pytest.mark.parametrize("kind", [BatchError, ResponseError, OSError])
async def test_known_trouble_is_logged_once_until_it_changes(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    await run(kind("a"), kind("a"), kind("b"), kind("b"), None, kind("b"))
    assert logged(caplog) == [f"! {text}; will be retried" for text in ("a", "b", "b")]


async def test_a_redis_that_is_away_is_not_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    assert (await run(RedisConnectionError("away"))).taken == 2
    assert logged(caplog) == []


async def test_the_unexpected_is_logged_with_its_traceback_each_time(caplog: pytest.LogCaptureFixture) -> None:
    await run(ValueError("a bug"), ValueError("a bug"))
    assert caplog.text.count("ValueError: a bug") == 2


@pytest.mark.parametrize("error", [BatchError("x"), RedisError("x"), OSError("x"), ValueError("x")])
async def test_an_error_of_the_last_step_stays_inside(error: Exception) -> None:
    last = Steps(error)
    async with every(3600, Steps().take, at_end=last.take):
        pass
    assert last.taken == 1


async def test_the_last_step_has_a_time_limit() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with every(3600, Steps().take, at_end=hang, end_within=0.01):
        pass
    assert cancelled.is_set()


async def test_the_step_under_way_ends_before_the_last_one() -> None:
    order: list[str] = []
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            order.append("step")

    async def last() -> None:
        order.append("last")

    async with every(0, step, at_end=last):
        await begun.wait()
    assert order == ["step", "last"]


class Slow:
    """A task that ends when it is let, and what became of those that wait for it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.task = asyncio.ensure_future(self._run())
        self.was_cancelled: list[str] = []

    async def _run(self) -> str:
        await self.gate.wait()
        return "done"

    async def cancelled_waiter(self, within: float | None = None) -> asyncio.Task[str]:
        """A task that waits for it and was cancelled once."""
        waiting = finish_despite_cancel(self.task, within=within, on_cancel=lambda: self.was_cancelled.append("once"))
        waiter = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.sleep(0)
        return waiter


async def test_a_task_ends_although_its_waiter_is_cancelled_again_and_again() -> None:
    slow = Slow()
    waiter = await slow.cancelled_waiter()
    for _ in range(3):
        waiter.cancel()
        await asyncio.sleep(0)
    assert (waiter.done(), slow.was_cancelled) == (False, ["once"])
    slow.gate.set()
    await asyncio.wait([waiter])
    assert (waiter.cancelled(), slow.task.result()) == (True, "done")


async def test_a_task_that_takes_longer_than_it_may_is_cancelled_too() -> None:
    slow = Slow()
    waiter = await slow.cancelled_waiter(within=0.01)
    await asyncio.wait([waiter, slow.task])
    assert (waiter.cancelled(), slow.task.cancelled()) == (True, True)


async def test_what_an_uncancelled_waiter_gets_is_the_tasks_result_or_error() -> None:
    slow = Slow()
    slow.gate.set()
    assert await finish_despite_cancel(slow.task, within=1.0) == "done"
    broken = asyncio.ensure_future(asyncio.wait_for(asyncio.Event().wait(), 0))
    with pytest.raises(TimeoutError):
        await finish_despite_cancel(broken)
