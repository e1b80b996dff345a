"""Saving in the order of the hour, and when creates have to wait for it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.replicate_api.predictions import RETENTION
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.outputs.backlog import ALL, ENOUGH, MARGIN, STALE, STANDSTILL, Backlog, would_miss

NOW = 1_000_000.0


async def test_of_those_that_wait_the_oldest_is_next() -> None:
    slots, served = PrioritySemaphore(1), list[float]()

    async def save(order: float) -> None:
        async with slots.turn(order):
            served.append(order)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, slots.turn(0):
        for order in (5.0, 2.0, 9.0, 2.0, 1.0):
            group.create_task(save(order))
        await asyncio.sleep(0)
        assert slots.waiting == 5
    assert served == [1.0, 2.0, 2.0, 5.0, 9.0]
    assert slots.waiting == 0


STEPS = st.tuples(st.sampled_from(["take", "cancel", "give"]), st.integers(0, 9))


@given(size=st.integers(1, 3), steps=st.lists(STEPS))
def test_no_slot_is_lost_or_given_twice(size: int, steps: list[tuple[str, int]]) -> None:
    """Tasks come, are cancelled at any moment (also with the slot just handed to them) and end."""
    asyncio.run(run(PrioritySemaphore(size), steps))


async def run(slots: PrioritySemaphore, steps: list[tuple[str, int]]) -> None:
    held, tasks = set[int](), list[tuple[asyncio.Task[None], asyncio.Event]]()

    async def hold(number: int, order: int, leave: asyncio.Event) -> None:
        async with slots.turn(order):
            held.add(number)
            assert len(held) <= slots.size
            try:
                await leave.wait()
            finally:
                held.discard(number)

    for step, value in [*steps, ("take", 0)]:
        if step == "take":
            leave = asyncio.Event()
            tasks.append((asyncio.create_task(hold(len(tasks), value, leave)), leave))
        elif tasks:
            task, leave = tasks[value % len(tasks)]
            task.cancel() if step == "cancel" else leave.set()
        if value % 2:
            await asyncio.sleep(0)
    for _, leave in tasks:
        leave.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        for _ in range(slots.size):  # all of them are there again
            await slots.acquire(0)


def lost_in_a_simulation(kept: list[float], in_flight: int, speed: float, margin: float) -> bool:
    """Save one output after the other, oldest first; all that runs ends now and is kept for an hour from now."""
    clock = NOW
    for until in sorted(kept) + [NOW + RETENTION] * in_flight:
        clock += 1 / speed
        if clock > until - margin:
            return True
    return False


@given(
    kept=st.lists(st.floats(1, RETENTION).map(lambda left: NOW + left), min_size=1, max_size=50),
    in_flight=st.integers(0, 200),
    speed=st.floats(0.001, 100),
    margin=st.sampled_from([0.0, MARGIN, 2 * MARGIN]),
)
def test_creates_wait_just_when_a_simulation_loses_an_output(
    kept: list[float], in_flight: int, speed: float, margin: float
) -> None:
    edge = 1e-6
    if lost_in_a_simulation(kept, in_flight, speed * (1 + edge), margin + edge):
        assert would_miss(kept, in_flight, speed, NOW, margin) is not None
    elif not lost_in_a_simulation(kept, in_flight, speed * (1 - edge), margin + edge):
        assert would_miss(kept, in_flight, speed, NOW, margin) is None


def test_the_first_to_be_lost_is_named() -> None:
    kept = [NOW + 3000, NOW + 400, NOW + 350]
    assert would_miss(kept, 0, 0.01, NOW, 0) is None
    assert would_miss(kept, 0, 0.01, NOW, MARGIN) == NOW + 350
    assert would_miss(kept, 0, 0.0, NOW, 0) == NOW + 350


def test_what_is_lost_already_holds_nobody() -> None:
    assert would_miss([NOW - 1], 100, 0.0, NOW, MARGIN) is None
    assert would_miss([], 1000, 0.001, NOW, MARGIN) is None


class Night:
    """A backlog with a clock that is moved by hand."""

    def __init__(self, slots: int = 2) -> None:
        self.slots = PrioritySemaphore(slots)
        self.backlog = Backlog(self.slots)
        self.clock = 0.0
        self.waiting: list[ExitStack] = []

    def end(self, count: int, *, left: float = RETENTION, breaking: bool = False, absent: bool = False) -> None:
        for _ in range(count):
            stack = ExitStack()
            unsaved = stack.enter_context(self.backlog.unsaved(NOW + self.clock + left))
            unsaved.breaking, unsaved.absent = breaking, absent
            self.waiting.append(stack)

    def save(self, count: int) -> None:
        for _ in range(count):
            self.waiting.pop(0).close()

    def seconds(self, count: float, *, saved_a_second: int = 0, every: int = 1) -> list[bool]:
        """Let time pass and look `every` so many seconds: whether creates were held at each look."""
        held = []
        for _ in range(int(count) // every):
            self.clock += every
            self.save(saved_a_second * every)
            self.backlog.look(self.clock)
            held.append(self.held())
        return held

    def held(self, in_flight: int = 0) -> bool:
        return self.backlog.why_hold(in_flight, NOW + self.clock) is not None


@pytest.fixture
def night() -> Night:
    return Night()


def test_one_slow_file_holds_nobody(night: Night) -> None:
    night.end(1)
    assert not any(night.seconds(RETENTION))


def test_nothing_is_held_before_enough_is_known(night: Night) -> None:
    night.end(10_000)
    assert not any(night.seconds(ENOUGH))
    assert all(night.seconds(20))


def test_a_backlog_that_is_saved_in_time_holds_nobody(night: Night) -> None:
    night.end(3000)
    assert not any(night.seconds(900, saved_a_second=3, every=3))


def test_a_hold_lasts_until_twice_the_margin_is_kept(night: Night) -> None:
    """15,000 take 3,750 s at 4 a second, which is more than the hour, and 2,600 s at 6."""
    night.end(15_000)
    held = night.seconds(100, saved_a_second=4)
    start = held.index(True)
    assert start == ENOUGH
    assert all(held[start:])
    held = night.seconds(ALL, saved_a_second=6, every=4)
    end = held.index(False) * 4
    assert not any(held[end // 4 :])
    speed = (4 * (ALL - end) + 6 * end) / ALL
    assert speed >= (15_000 - 400 - 6 * end) / (RETENTION - 100 - end - 2 * MARGIN) - 0.5


def test_a_hold_does_not_change_back_and_forth(night: Night) -> None:
    """At 4.55 a second 15,000 are just saved in time with the margin: with a little more it ends, with less begins."""
    night.end(15_000)
    held = [
        held
        for _ in range(6)
        for held in night.seconds(20, saved_a_second=4, every=4) + night.seconds(24, saved_a_second=5, every=4)
    ]
    assert sum(before != after for before, after in pairwise(held)) <= 1


def test_the_reason_says_how_many_how_fast_and_when(night: Night) -> None:
    night.end(20_000)
    night.seconds(ENOUGH + 10, saved_a_second=3)
    reason = night.backlog.why_hold(0, NOW + night.clock)
    assert reason
    assert reason.startswith("19,790 outputs wait to be saved: at 3 a second the first would be lost at ")
    assert reason.endswith("; creates wait")


def test_predictions_that_run_count_too(night: Night) -> None:
    night.end(500)
    night.seconds(ENOUGH + 10, saved_a_second=1)
    assert not night.held(in_flight=100)
    assert night.held(in_flight=5000)


def test_a_standstill_holds_creates_and_ends(night: Night) -> None:
    night.end(3)
    held = night.seconds(STANDSTILL + 10)
    assert held[-1]
    assert not any(held[: int(STANDSTILL) - 10]), "three are no danger yet"
    night.save(2)
    assert not night.seconds(STALE + 10)[-1], "one that is left holds nobody for ever"


def test_what_breaks_by_itself_holds_nobody_while_others_are_saved(night: Night) -> None:
    night.end(40, left=MARGIN / 2, breaking=True)
    broken, night.waiting = night.waiting, []
    night.end(1000)
    assert not any(night.seconds(ENOUGH + 20, saved_a_second=2))
    assert len(broken) == 40, "nobody gave them up"


def test_speed_is_of_the_last_minutes_and_under_load_only(night: Night) -> None:
    for _ in range(200):  # one at a time: the models are slow, not the saving
        night.end(1)
        night.seconds(1, saved_a_second=1)
    assert night.backlog.speed is None
    night.end(10_000)
    night.seconds(ALL, saved_a_second=1, every=4)
    assert night.backlog.speed == pytest.approx(1, rel=0.02)
    night.seconds(ALL + 4, saved_a_second=5, every=4)
    assert night.backlog.speed == pytest.approx(5, rel=0.02)


async def test_a_few_predictions_with_many_files_are_a_load(night: Night) -> None:
    """Fewer predictions than slots, but files that wait for one."""
    night = Night(slots=5)
    night.end(2)
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        leave = asyncio.Event()

        async def transfer() -> None:
            async with night.slots.turn(0):
                await leave.wait()

        for _ in range(6):
            group.create_task(transfer())
        await asyncio.sleep(0)
        night.seconds(ENOUGH + 1)
        assert night.backlog.speed is not None
        leave.set()


def test_files_that_are_not_there_hold_nobody_while_others_are_saved(night: Night) -> None:
    """They need no slot: what is saved beside them, one a minute of a slow model, is no measure of any backlog."""
    night.end(50, absent=True)
    for _ in range(20):
        with night.backlog.unsaved(NOW + night.clock + RETENTION):
            assert not any(night.seconds(60))
            assert not night.held(in_flight=1000)


def test_a_host_that_has_no_file_at_all_holds_creates(night: Night) -> None:
    night.end(3, absent=True)
    held = night.seconds(STANDSTILL + 10)
    assert held.index(True) == STANDSTILL - 1
    reason = night.backlog.why_hold(0, NOW)
    assert reason
    assert reason.startswith("the files of 3 outputs are not at their URLs")
    night.save(1)
    assert not any(night.seconds(100))


def test_a_few_files_that_are_not_there_hold_nobody(night: Night) -> None:
    night.end(2, absent=True)
    assert not any(night.seconds(RETENTION))


def test_outputs_whose_folder_takes_none_hold_nobody() -> None:
    """Whatever others do or leave, these are not saved before their folder is mended."""
    for blocked in (True, False):
        night = Night()
        with ExitStack() as stack:
            for _ in range(5000):
                stack.enter_context(night.backlog.unsaved(NOW + RETENTION, partial(bool, blocked)))
            assert any(night.seconds(400, every=5)) is not blocked
