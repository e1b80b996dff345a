from __future__ import annotations

from typing import Any

import pytest

from jobs.cli.progress import WINDOW, OwnPace
from jobs.wire import Status


def a_status(**facts: Any) -> Status:
    known: dict[str, Any] = {
        "batch": "cats", "state": "running", "total": 100, "succeeded": 40, "failed": 0, "canceled": 0, "in_flight": 9,
        "waiting": 51, "unknown_creates": 0, "created_at": "2026-11-21T03:00:00.000Z", "rate_per_minute": 2400.0,
        "eta": 1.5, "workers": 1,
    }  # fmt: skip
    return Status(**known | facts)


@pytest.mark.parametrize(
    ("seconds", "facts", "pace"),
    [
        (0, {}, (0.0, None)),
        (5, {}, (0.0, None)),
        (10, {"succeeded": 42, "failed": 3}, (30.0, 110.0)),
        (10, {"succeeded": 45, "eta": None}, (30.0, None)),
        (WINDOW, {"succeeded": 60}, (2400.0, 1.5)),
    ],
)
def test_only_what_this_run_has_settled_counts(
    seconds: float, facts: dict[str, Any], pace: tuple[float, float | None]
) -> None:
    times = iter([0.0, seconds])
    found = OwnPace(a_status(), lambda: next(times))(a_status(**facts))
    assert (found.rate_per_minute, found.eta) == pace
