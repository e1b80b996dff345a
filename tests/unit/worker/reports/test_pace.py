from __future__ import annotations

from jobs.errors import NotSent, RateLimited
from worker.reports.pace import Pace, requests_made
from worker.telemetry.metrics import count_request


def test_requests_of_the_last_minute_are_counted() -> None:
    pace = Pace()
    looks = [(0, 100), (5, 110), (30, 150), (60, 180), (64, 190), (65, 200), (90, 200), (200, 200)]
    found = [pace.look(float(now), {"create": total})["create"] for now, total in looks]
    assert found == [0, 10, 50, 80, 90, 90, 50, 0]


def test_a_first_request_counts() -> None:
    pace = Pace()
    pace.look(0.0, {})
    assert pace.look(5.0, {"create": 3, "read": 1}) == {"create": 3, "read": 1}


def test_requests_that_were_not_sent_use_nothing() -> None:
    before = requests_made().get("create", 0)
    for error in (None, NotSent("refused"), RateLimited("429", retry_after=None)):
        try:
            with count_request("create"):
                if error:
                    raise error
        except (NotSent, RateLimited):
            continue
    assert requests_made()["create"] == before + 2
