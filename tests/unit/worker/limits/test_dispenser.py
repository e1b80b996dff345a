from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from jobs.account.rate_limit import Reservation
from worker.limits.dispenser import LATE, StartTime, TokenDispenser

SECOND = 1_000_000


def answer(
    *times: int, now: int = 0, wait: int = 0, epoch: int = 0, leased: bool = False, why: str = ""
) -> Reservation:
    return Reservation(now, epoch, wait, 5, leased, why, "x", times)


@dataclass
class Scripted:
    """Answers from a list, then nothing for an hour; times are relative to the clock's 0."""

    answers: list[Reservation]
    asked: list[int] = field(default_factory=list)
    given_back: int = 0
    before: Callable[[], object] = lambda: None

    async def reserve(self, count: int) -> Reservation:
        self.asked.append(count)
        self.before()
        return self.answers.pop(0) if self.answers else answer(wait=3600 * SECOND)

    async def give_back(self) -> None:
        self.given_back += 1


@asynccontextmanager
async def running(source: Scripted) -> AsyncIterator[TokenDispenser]:
    dispenser = TokenDispenser("create", source)
    async with dispenser.running():
        yield dispenser


async def spin() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def acquire_many(dispenser: TokenDispenser, count: int) -> list[asyncio.Task[StartTime]]:
    return [asyncio.create_task(dispenser.acquire()) for _ in range(count)]


async def stop(tasks: list[asyncio.Task[StartTime]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def done(tasks: list[asyncio.Task[StartTime]]) -> list[bool]:
    return [task.done() for task in tasks]


async def test_due_times_go_to_the_oldest_waiters() -> None:
    source = Scripted([answer(0), answer(0, 0)])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 5)
        await spin()
        assert done(tasks) == [True, True, True, False, False]
        await stop(tasks)


async def test_who_comes_later_with_a_lower_order_goes_first() -> None:
    source = Scripted([answer(3600 * SECOND)])
    served: list[str] = []

    async def acquire(name: str, order: float) -> None:
        await dispenser.acquire(order)
        served.append(name)

    async with running(source) as dispenser:
        tasks = [asyncio.create_task(acquire(f"huge {n}", 200 + n)) for n in range(3)]
        await spin()
        tasks += [asyncio.create_task(acquire(f"small {n}", 100 + n)) for n in range(2)]
        await spin()
        source.answers += [answer(0, 0, epoch=1), answer(0, 0, 0, epoch=1)]
        dispenser.refresh()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert served == ["small 0", "small 1", "huge 0", "huge 1", "huge 2"]


async def test_no_more_is_reserved_than_is_waited_for_or_than_the_horizon() -> None:
    later = 3600 * SECOND
    source = Scripted([answer(later), answer(later, later), answer(later, later)])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 1)
        await spin()
        assert source.asked == [1]
        tasks += acquire_many(dispenser, 2)
        await spin()
        assert source.asked == [1, 2]
        tasks += acquire_many(dispenser, 20)
        await spin()
        assert source.asked == [1, 2], "3 of 5 are reserved: it waits until half of them are missing"
        await stop(tasks)


async def test_a_time_that_is_not_due_is_given_to_nobody() -> None:
    source = Scripted([answer(3600 * SECOND)])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 1)
        await spin()
        assert done(tasks) == [False]
        assert source.asked == [1]
        await stop(tasks)


async def test_a_late_time_is_void_and_reserved_again() -> None:
    source = Scripted([answer(-LATE - 1), answer(-LATE + SECOND // 10)])
    async with running(source) as dispenser:
        await asyncio.wait_for(dispenser.acquire(), 10)
    assert source.asked == [1, 1]


async def test_a_call_that_took_too_long_makes_its_times_late() -> None:
    def stall() -> None:
        if len(source.asked) == 1:
            time.sleep(LATE / SECOND + 0.1)

    source = Scripted([answer(0), answer(0)], before=stall)
    async with running(source) as dispenser:
        await dispenser.acquire()
    assert source.asked == [1, 1]


async def test_what_a_canceled_waiter_was_just_given_goes_to_the_next() -> None:
    source = Scripted([answer(0), answer(3600 * SECOND), answer()])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 2)
        source.before = lambda: asyncio.get_running_loop().call_soon(tasks[0].cancel)
        await spin()
        assert [task.cancelled() for task in tasks] == [True, False]
        assert tasks[1].done()
        assert source.asked == [1, 1, 0]


async def test_a_canceled_waiter_is_passed_over() -> None:
    source = Scripted([answer(0)])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 2)
        source.before = tasks[0].cancel
        await spin()
        assert tasks[0].cancelled()
        assert tasks[1].done()
        assert not tasks[1].cancelled()


async def test_a_time_that_nobody_wants_any_more_serves_the_next_to_come() -> None:
    source = Scripted([answer(0), answer(), answer()])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 1)
        source.before = tasks[0].cancel
        await spin()
        source.before = lambda: None
        await asyncio.wait_for(dispenser.acquire(), 10)
    assert source.asked == [1, 0]
    assert source.given_back == 0


async def test_a_lease_is_remembered_until_it_is_answered() -> None:
    source = Scripted([answer(0, leased=True)])
    async with running(source) as dispenser:
        assert not dispenser.has_lease
        await dispenser.acquire()
        assert dispenser.has_lease
        assert source.given_back == 0


async def test_a_lease_that_nobody_uses_is_given_back_at_once() -> None:
    source = Scripted([answer(0, leased=True)])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 1)
        source.before = lambda: asyncio.get_running_loop().call_soon(tasks[0].cancel)
        await spin()
        assert tasks[0].cancelled()
        assert source.given_back == 1
        assert not dispenser.has_lease


async def test_a_late_lease_is_given_back_and_another_one_taken() -> None:
    source = Scripted([answer(-LATE - 1, leased=True), answer(0, leased=True)])
    async with running(source) as dispenser:
        await asyncio.wait_for(dispenser.acquire(), 10)
        assert source.given_back == 1
        assert dispenser.has_lease


@pytest.mark.parametrize(
    "voiding",
    [answer(now=SECOND // 10, epoch=1), answer(now=SECOND // 10, wait=3600 * SECOND, why="held")],
    ids=["new epoch", "closed"],
)
async def test_times_from_before_a_hold_are_void(voiding: Reservation, eventually: Callable[..., Any]) -> None:
    source = Scripted([answer(SECOND // 50, SECOND // 50), voiding])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 2)
        await spin()
        assert source.asked == [1]
        await eventually(lambda: len(source.asked) > 1)
        await spin()
        assert done(tasks) == [False, False]
        await stop(tasks)


async def test_a_closed_gate_is_not_asked_again_by_each_newcomer() -> None:
    source = Scripted([answer(wait=3600 * SECOND, why="paused")])
    async with running(source) as dispenser:
        tasks = acquire_many(dispenser, 1)
        await spin()
        tasks += acquire_many(dispenser, 5)
        await spin()
        assert source.asked == [1]
        assert dispenser.reason == "paused: x"
        await stop(tasks[:2])
        source.answers.append(answer(0, 0, 0))
        dispenser.refresh()
        await spin()
        assert source.asked[1] == 4, "the canceled are not counted"
        assert done(tasks) == [True, True, True, True, True, False]
        await stop(tasks)
        assert dispenser.reason is None


async def test_the_log_tells_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "worker.limits.dispenser")
    source = Scripted([answer(wait=1, why="held"), answer(wait=1, why="held"), answer(0)])
    async with running(source) as dispenser:
        await asyncio.wait_for(dispenser.acquire(), 10)
    assert [record.getMessage() for record in caplog.records] == [
        "create limit: held back: nothing starts for another x s",
        "create limit: requests start again",
    ]


async def test_an_error_is_logged_and_does_not_end_the_pump(caplog: pytest.LogCaptureFixture) -> None:
    def fail_once() -> None:
        if len(source.asked) == 1:
            raise ValueError("a bug")

    source = Scripted([answer(0)], before=fail_once)
    async with running(source) as dispenser:
        await asyncio.wait_for(dispenser.acquire(), 10)
    assert "a bug" in caplog.text


async def test_a_time_that_was_not_used_goes_to_the_next() -> None:
    async with running(Scripted([answer(0), answer()])) as dispenser:
        slot = await dispenser.acquire()
        tasks = acquire_many(dispenser, 1)
        dispenser.give_back(slot)
        await spin()
        assert done(tasks) == [True]


async def test_a_leased_time_that_was_not_used_is_given_back() -> None:
    source = Scripted([answer(0, leased=True)])
    async with running(source) as dispenser:
        dispenser.give_back(await dispenser.acquire())
        await spin()
        assert not dispenser.has_lease
    assert source.given_back == 1
