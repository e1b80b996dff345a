from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import partial

import pytest
from rich.cells import cell_len

from jobs.cli import tables
from jobs.cli.progress import picture
from jobs.printer import Printer
from jobs.schedules.scheduler import ScheduleStatus
from jobs.wire import Failure, Result, Status
from tests.unit.jobs.cli import pictures
from tests.unit.jobs.cli.pictures import drawn

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC).timestamp()
WIDTHS = [20, 36, 60, 72, 80, 120, 250]
LONG = "a-name-of-a-batch-that-is-as-long-as-a-name-may-be-in-this-proje"


a_status = partial(pictures.a_status, total=300, succeeded=84)
BUSY = a_status(
    batch="nightly-2026-11-21T0200",
    failed=12,
    canceled=3,
    in_flight=100,
    rate_per_minute=594,
    eta=3601,
    cost=12.345,
    succeeded=69,
)
HUGE = a_status(batch=LONG, total=10_000_000, succeeded=9_999_999, failed=1_000_000, in_flight=1000, cost=123_456.78)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("statuses", [[a_status()], [BUSY, a_status()], [HUGE, BUSY]])
def test_no_number_and_no_name_of_a_batch_is_cut(statuses: list[Status], width: int) -> None:
    lines = drawn(tables.batches_table(statuses, NOW), width)
    assert all(cell_len(line) <= width for line in lines)
    words = "".join(lines).replace(" ", "")
    for status in statuses:
        done = status.succeeded + status.failed + status.canceled
        assert status.batch in words
        assert f"{done}/{status.total}" in words
        assert str(status.failed or "") in words


def test_the_least_important_columns_go_first() -> None:
    shown = {width: drawn(tables.batches_table([BUSY], NOW), width)[0].split() for width in range(50, 130)}
    order = ["age", "cost", "flight", "pace"]
    for width, headings in shown.items():
        if headings[0] != "batch":
            continue  # stacked
        missing = [name for name in order if name not in headings]
        assert missing == order[: len(missing)], width
        assert {"batch", "state", "done", "failed", "canceled"} <= set(headings), width
    assert "pace" in shown[92]
    assert "batch" in shown[72]


def test_stacked_rows_say_all() -> None:
    name, *facts = drawn(tables.batches_table([HUGE], NOW), 70)
    assert name == LONG
    assert facts == [
        "  state running · done 10999999/10000000 · failed 1000000",
        "  in flight 1000 · cost $123,456.78 · age 2 d",
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_reason_of_a_failure_is_cut(width: int) -> None:
    reason = "Die Datei ist kaputt: 画像が壊れています " * 10
    failed = Result(
        id="p" * 128,
        index=0,
        status="failed",
        model="m",
        input={},
        error=Failure(kind="content_policy", message=reason),
    )
    lines = drawn(tables.failures_table([failed, failed.model_copy(update={"id": "000002"})]), width)
    assert all(cell_len(line) <= width for line in lines)
    words = "".join(lines).replace(" ", "")
    assert "p" * 128 in words
    assert words.count("content_policy") == 2
    assert words.count("画") == 20 or width < 60  # side by side, lines of two columns mix


def test_no_next_time_of_a_schedule_is_cut() -> None:
    one = ScheduleStatus(
        name="s" * 47,
        cron="*/15 0-6,20-23 1,15 * MON-FRI",
        timezone="America/Argentina/ComodRivadavia",
        file="f.jsonl",
        next="2026-11-22T02:00:00-03:00",
        last="2026-11-21T02:00:00-03:00",
        last_batch="s" * 47 + "-2026-11-21T0200",
    )
    for width in WIDTHS:
        lines = drawn(tables.schedules_table([one]), width)
        assert all(cell_len(line) <= width for line in lines)
        words = "".join(lines).replace(" ", "")
        assert "s" * 47 in words
        assert "2026-11-22" in words


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("status", [BUSY, HUGE])
def test_nothing_of_the_picture_is_cut(status: Status, width: int) -> None:
    lines = drawn(picture(status.model_copy(update={"reason": "磁" * 200})), width)
    assert all(cell_len(line) <= width for line in lines)
    words = "".join(lines).replace(" ", "")
    assert status.batch in words
    assert f"{status.succeeded + status.failed + status.canceled}/{status.total}" in words
    assert words.count("磁") == 200


@pytest.mark.parametrize("width", [60, 40, 30])
def test_a_long_name_of_a_model_leaves_room_for_all_values(width: int) -> None:
    costs = {"black-forest-labs/flux-1.1-pro-ultra": 1.0, "a/b": 0.25}
    lines = drawn(tables.batch_table(a_status(succeeded=3, model_costs=costs), NOW), width)
    assert "$1.00" in "".join(lines)
    assert ["a/b", "$0.25"] in [line.split() for line in lines]
    assert ["state", "running"] in [line.split() for line in lines]
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("surroundings", [{}, {"TERM": "dumb", "FORCE_COLOR": "1"}, {"COLUMNS": "20"}])
def test_in_a_pipe_nothing_is_broken_or_cut(
    surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    failed = Result(
        id="p" * 128,
        index=0,
        status="failed",
        model="m",
        input={},
        error=Failure(kind="model_error", message="word " * 200),
    )
    Printer().show(tables.failures_table([failed]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].count("word") == 200


def test_in_a_pipe_no_line_ends_with_blanks_and_no_text_becomes_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    paper = Printer()
    paper.show(tables.batch_table(a_status(dead_letters=["night:100:0"]), NOW), ["night:100:0 is :warning: dead"])
    out = capsys.readouterr().out
    assert not [line for line in out.splitlines() if line != line.rstrip()]
    assert out.count("night:100:0") == 2
    assert ":warning:" in out


def test_a_terminal_that_can_do_nothing_still_has_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout", Terminal())
    assert Printer().width == 60
