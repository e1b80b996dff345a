from __future__ import annotations

from typing import Any

import pytest

from jobs.dashboard.overview import Need, needs, projected, schedule_needs
from jobs.operations.report import NO_WORKER
from jobs.schedules.scheduler import ScheduleStatus
from jobs.wire import NO_WORKER as NO_WORKER_REASON
from jobs.wire import Status

PAUSED_MODEL = "model a/b is paused: 3 of its last 4 predictions failed"


def a_status(**fields: Any) -> Status:
    usual: dict[str, Any] = {
        "batch": "night", "state": "running", "total": 10, "succeeded": 0, "failed": 0, "canceled": 0, "in_flight": 0,
        "waiting": 10, "unknown_creates": 0, "created_at": "2026-01-01T00:00:00.000Z", "rate_per_minute": 0.0,
        "workers": 1,
    }  # fmt: skip
    return Status(**usual | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"finished_at": "2026-01-01T00:00:00.000Z", "workers": 0}, []),
        ({"workers": 0, "reasons": [NO_WORKER_REASON]}, [Need(NO_WORKER)]),
        (
            {"state": "paused", "reason": "by hand", "reasons": ["by hand"]},
            [Need("Paused: by hand", "/actions/resume", "Resume")],
        ),
        ({"reasons": [PAUSED_MODEL]}, [Need(PAUSED_MODEL, "/actions/resume", "Resume", ("night",))]),
        ({"reasons": ["the disk is full"]}, [Need("the disk is full", batches=("night",))]),
        (
            {"reasons": ["1 dead letter: 0"], "dead_letters": ["night:0:0"]},
            [Need("1 dead letter: 0", "/batches/night/actions/retry", "Retry", ("night",))],
        ),
    ],
)
def test_what_needs_a_person(fields: dict[str, Any], expected: list[Need]) -> None:
    assert list(needs([a_status(**fields)])) == expected


def test_what_several_batches_wait_for_is_said_once() -> None:
    statuses = [a_status(batch=name, reasons=["the disk is full"]) for name in ("a", "b")]
    assert list(needs(statuses)) == [Need("the disk is full", batches=("a", "b"))]


def test_schedules_that_do_not_fire_need_a_person() -> None:
    known = {"cron": "* * * * *", "timezone": "UTC", "file": "x.jsonl"}
    schedules = [
        ScheduleStatus(name="fine", **known),
        ScheduleStatus(name="late", **known, last_error="the disk is full"),
        ScheduleStatus(name="odd", **known, problem="no file"),
    ]
    found = [need.sentence for need in schedule_needs(schedules, "line 1 is wrong")]
    assert found == ["Schedules: line 1 is wrong", "Schedule late: the disk is full", "Schedule odd: no file"]


def test_what_the_budget_stops_has_a_button() -> None:
    (need,) = needs([a_status(over_budget=2, max_cost=1.0, cost=1.0, finished_at="2026-01-01T00:00:00.000Z")])
    assert (need.action, need.button, need.batches) == ("/batches/night/actions/retry", "Retry", ("night",))


@pytest.mark.parametrize(
    ("fields", "dollars"),
    [
        ({}, None),
        ({"cost": 1.0}, None),
        ({"cost": 1.0, "succeeded": 3, "failed": 1, "in_flight": 1}, 2.0),
        ({"cost": 1.0, "succeeded": 10, "finished_at": "2026-01-01T00:00:00.000Z"}, None),
    ],
)
def test_what_a_batch_will_have_cost(fields: dict[str, Any], dollars: float | None) -> None:
    assert projected(a_status(**fields)) == dollars
