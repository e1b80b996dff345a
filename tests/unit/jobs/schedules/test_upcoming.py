"""The next fire times of all schedules: in order, each in its own zone, also where the clock changes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from jobs.schedules.file import Schedule
from jobs.schedules.upcoming import next_times

NOW = datetime.fromisoformat("2026-10-24T23:59:00+00:00").timestamp()  # an hour before Berlin sets its clocks back
BERLIN = Schedule("berlin", "30 * * * *", Path("a.jsonl"), timezone="Europe/Berlin")
TOKYO = Schedule("tokyo", "0 12 * * *", Path("b.jsonl"), timezone="Asia/Tokyo")


def test_times_are_in_order_and_in_the_zone_of_their_schedule() -> None:
    assert [(one.time, one.batch) for one in next_times([TOKYO, BERLIN], NOW, 5)] == [
        ("2026-10-25T02:30:00+02:00", "berlin-2026-10-25T0230"),
        ("2026-10-25T02:30:00+01:00", "berlin-2026-10-25T0230b"),
        ("2026-10-25T03:30:00+01:00", "berlin-2026-10-25T0330"),
        ("2026-10-25T12:00:00+09:00", "tokyo-2026-10-25T1200"),
        ("2026-10-25T04:30:00+01:00", "berlin-2026-10-25T0430"),
    ]


def test_no_schedule_has_no_times() -> None:
    assert next_times([], NOW, 5) == []
