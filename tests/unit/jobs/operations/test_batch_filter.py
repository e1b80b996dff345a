"""Which batches a list shows, and in what order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.operations.batch_filter import BatchFilter
from jobs.wire import Status
from tests.unit.jobs.cli.pictures import a_status

NEWEST_FIRST = [
    a_status(batch="dogs-2", state="queued", created_at="2026-11-21T04:00:00.000Z"),
    a_status(batch="cats-2", succeeded=9, failed=1, cost=0.5, state="finished", created_at="2026-11-21T03:00:00.000Z"),
    a_status(batch="dogs-1", workers=0, dead_letters=["0"], created_at="2026-11-21T02:00:00.000Z"),
    a_status(batch="cats-1", in_flight=3, succeeded=2, failed=4, cost=2, created_at="2026-11-21T01:00:00.000Z"),
]


def listed(statuses: list[Status]) -> str:
    return " ".join(status.batch for status in statuses)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "dogs-2 cats-2 dogs-1 cats-1"),
        ({"states": frozenset({"running"})}, "cats-1"),
        ({"states": frozenset({"waiting", "queued"})}, "dogs-2 dogs-1"),
        ({"since": datetime(2026, 11, 21, 3, tzinfo=UTC)}, "dogs-2 cats-2"),
        ({"name": "cats-*"}, "cats-2 cats-1"),
        ({"name": "Cats-*"}, ""),
        ({"has_failed": True}, "cats-2 dogs-1 cats-1"),
        ({"has_failed": True, "name": "cats*", "states": frozenset({"finished"})}, "cats-2"),
        ({"sort": "oldest"}, "cats-1 dogs-1 cats-2 dogs-2"),
        ({"sort": "name"}, "cats-1 cats-2 dogs-1 dogs-2"),
        ({"sort": "failed"}, "cats-1 cats-2 dogs-2 dogs-1"),
        ({"sort": "cost"}, "cats-1 cats-2 dogs-2 dogs-1"),
        ({"sort": "left"}, "dogs-2 dogs-1 cats-1 cats-2"),
    ],
)
def test_lists_what_the_options_say(options: dict[str, Any], expected: str) -> None:
    assert listed(BatchFilter(**options).apply(NEWEST_FIRST)) == expected
