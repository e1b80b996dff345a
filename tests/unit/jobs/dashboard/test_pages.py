from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import TimeoutError as RedisTimeout

from jobs.dashboard.pages import outage
from jobs.errors import StorageError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RedisTimeout("refused"), "Redis does not answer (refused)."),
        (AuthenticationError("wrong password."), "Redis refuses the dashboard (wrong password): REDIS_URL needs"),
        (NoPermissionError("no get"), "Redis refuses the dashboard (no get): REDIS_URL needs"),
        (StorageError("the disk is full", Path()), "the disk is full."),
    ],
)
def test_an_outage_says_what_is_wrong(error: Exception, sentence: str) -> None:
    assert sentence in outage(error)


def test_without_an_outage_nothing_is_said() -> None:
    assert "hidden" in outage()
