from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import pytest
from rich.console import Console

from jobs.cli.progress import (
    LINE_EVERY,
    BarScreen,
    LineScreen,
    LineWriter,
    follow,
    is_live,
    picture,
    progress_line,
    screen_for,
)
from jobs.wire import Status
from tests.unit.jobs.cli import pictures

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


a_status = partial(pictures.a_status, total=1000, waiting=1000)
FINISHED: dict[str, Any] = {"state": "finished", "finished_at": "2026-11-21T03:00:00.000Z", "succeeded": 1000}


class Recorder:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.seen: list[Status] = []
        self.open = False

    def __enter__(self) -> Self:
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def show(self, status: Status) -> None:
        assert self.open
        self.seen.append(status)


class Looks:
    """Answers one status after the other."""

    def __init__(self, *statuses: Status) -> None:
        self._statuses: Iterator[Status] = iter(statuses)

    async def __call__(self) -> Status:
        return next(self._statuses)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(status: Status, width: int = 80) -> str:
    lines = pictures.drawn(picture(status), width, force_terminal=True, color_system=None)
    return ESCAPES.sub("", "\n".join(lines))


async def test_follow_shows_each_look_and_ends_with_the_batch() -> None:
    looks = [a_status(), a_status(succeeded=3), a_status(**FINISHED)]
    screen = Recorder()
    last = await follow(Looks(*looks), screen, every=0)
    assert screen.seen == looks
    assert last is looks[-1]
    assert not screen.open


async def test_follow_goes_on_while_a_batch_is_only_asked_to_cancel() -> None:
    asked = a_status(reason="is being canceled")
    ended = a_status(state="canceled", finished_at="2026-11-21T03:00:00.000Z", canceled=1000)
    screen = Recorder()
    assert await follow(Looks(asked, ended), screen, every=0) is ended
    assert len(screen.seen) == 2


async def test_follow_leaves_the_screen_when_a_look_fails() -> None:
    async def broken() -> Status:
        raise ConnectionError

    screen = Recorder()
    with pytest.raises(ConnectionError):
        await follow(broken, screen, every=0)
    assert not screen.open


def test_lines_come_on_change_and_not_too_often() -> None:
    written: list[Status] = []
    clock = Clock()
    screen = LineScreen(written.append, clock)
    first = a_status(rate_per_minute=10)
    screen.show(first)
    clock.now += LINE_EVERY
    screen.show(a_status(rate_per_minute=20, eta=5.0))
    assert written == [first], "a new rate alone is no news"
    changed = a_status(succeeded=1)
    screen.show(changed)
    screen.show(a_status(succeeded=2))
    assert written == [first, changed], "too early"
    clock.now += LINE_EVERY - 0.01
    screen.show(a_status(succeeded=3))
    assert written == [first, changed], "still too early"
    clock.now += 0.01
    latest = a_status(succeeded=3)
    screen.show(latest)
    assert written == [first, changed, latest]


def test_the_last_line_waits_for_nothing_but_is_written_once() -> None:
    written: list[Status] = []
    screen = LineScreen(written.append, Clock())
    ended = a_status(**FINISHED)
    for status in (a_status(), ended, ended):
        screen.show(status)
    assert written == [a_status(), ended]


def test_a_file_gets_lines_without_escapes() -> None:
    out = io.StringIO()
    with screen_for(Console(file=out, width=60)) as screen:
        screen.show(a_status(failed=3, in_flight=100, rate_per_minute=594, eta=3601.2, succeeded=500))
        screen.show(a_status(**FINISHED))
    lines = out.getvalue().splitlines()
    assert lines == [
        "prompts: running, 503 of 1000 done, 3 failed, 100 in flight, 594/min, ETA 1:00:01",
        "prompts: finished, 1000 of 1000 done",
    ]


def test_a_note_is_told_once_until_its_cause_is_over() -> None:
    out = io.StringIO()
    write = LineWriter(Console(file=out, width=60))
    full, slow = "the disk is full", "12,345 outputs wait: at 3.1 a second the first would be lost at 02:13"
    for number, reason in enumerate(
        [full, full, slow, "9,999 outputs wait: at 3 a second the first would be lost at 03:00"]
    ):
        write(a_status(succeeded=number, reason=reason))
    write(a_status(succeeded=4))
    write(a_status(succeeded=5, reason=full))
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line.startswith("  ")] == [
        f"  prompts: {full}",
        f"  prompts: {slow}",
        f"  prompts: {full}",
    ]


def test_new_numbers_in_a_reason_are_no_news() -> None:
    written: list[Status] = []
    clock = Clock()
    screen = LineScreen(written.append, clock)
    for number in range(5):
        screen.show(a_status(reason=f"{number + 2} prompts wait for the batch's --max-in-flight"))
        clock.now += LINE_EVERY
    assert len(written) == 1


def test_a_terminal_gets_a_bar_that_stays() -> None:
    terminal = Terminal()
    console = Console(file=terminal, width=80, force_terminal=True, force_interactive=True, color_system=None)
    screen = screen_for(console)
    assert isinstance(screen, BarScreen)
    with screen:
        screen.show(a_status(succeeded=10))
        screen.show(a_status(**FINISHED))
    shown = ESCAPES.sub("", terminal.getvalue())
    assert "1000/1000" in shown
    assert "━━━━" in shown
    assert "finished" in shown


@pytest.mark.parametrize(
    ("file", "forced", "live"),
    [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False), (io.StringIO(), False, False)],
)
def test_only_a_real_terminal_is_live(file: io.StringIO, *, forced: bool, live: bool) -> None:
    assert is_live(Console(file=file, force_terminal=forced, force_interactive=forced)) is live


def test_the_picture_names_all_that_counts() -> None:
    shown = drawn(
        a_status(succeeded=500, failed=3, canceled=2, in_flight=100, unknown_creates=1, rate_per_minute=594, eta=50.4),
        width=100,
    )
    first, second = shown.splitlines()
    assert first.split()[0] == "prompts"
    assert first.rstrip().endswith("505/1000")
    for fact in ("3 failed", "2 canceled", "100 in flight", "594/min", "ETA 0:00:50"):
        assert fact in second


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_picture_fits(width: int) -> None:
    crowded = a_status(
        batch="a-name-of-a-batch-that-is-as-long-as-a-name-may-be-in-this-project",
        total=1_000_000,
        succeeded=123_456,
        failed=1234,
        in_flight=1000,
        rate_per_minute=594,
        eta=88_000,
    )
    lines = drawn(crowded, width).splitlines()
    assert len(lines) <= 4
    assert all(len(line) <= width for line in lines)
    assert any("124690/1000000" in line for line in lines)


def test_the_picture_says_why_it_is_paused_and_that_nobody_works() -> None:
    shown = drawn(a_status(state="paused", reason="402: no credit", workers=0), 120)
    assert "Paused: 402: no credit. `python -m jobs resume` lifts it." in shown
    assert "python -m arq worker.Settings" in shown


def test_the_picture_of_an_ended_batch_asks_for_nothing() -> None:
    shown = drawn(a_status(**FINISHED, workers=0))
    assert "arq" not in shown
    assert "finished" in shown


def test_a_batch_of_nothing_can_be_drawn() -> None:
    assert "0/0" in drawn(a_status(total=0, waiting=0, state="queued"))


def test_only_a_terminal_shows_how_far_something_is() -> None:
    screen = Terminal()
    with progress_line(Console(file=screen, force_terminal=True)) as tell:
        assert tell
        tell("checking [red]a\x1b.txt: 10,000 rows")
    assert "checking [red]a\ufffd.txt: 10,000 rows" in ESCAPES.sub("", screen.getvalue())
    pipe = io.StringIO()
    with progress_line(Console(file=pipe)) as tell:
        assert tell is None
    assert pipe.getvalue() == ""
