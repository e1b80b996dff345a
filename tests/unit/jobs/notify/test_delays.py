from __future__ import annotations

import pytest

from jobs.notify.delivery import DELAYS, next_delay
from jobs.notify.receiver import DELIVERED, Outcome


@pytest.mark.parametrize(
    ("outcome", "tries", "delay"),
    [
        (DELIVERED, 1, None),
        (Outcome("HTTP 503"), 1, 5),
        (Outcome("HTTP 503"), 2, 60),
        (Outcome("HTTP 503"), 9, 36_000),
        (Outcome("HTTP 503"), 10, None),
        (Outcome("HTTP 429", retry_after=120), 1, 120),
        (Outcome("HTTP 429", retry_after=1), 2, 60),
        (Outcome("exit code 1", final=True), 1, None),
        (Outcome("HTTP 410", final=True, gone=True), 1, None),
    ],
)
def test_the_next_try(outcome: Outcome, tries: int, delay: float | None) -> None:
    assert next_delay(outcome, tries) == delay


def test_ten_tries_take_about_a_day() -> None:
    assert len(DELAYS) == 9
    assert 20 * 3600 < sum(DELAYS) < 26 * 3600
