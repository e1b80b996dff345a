"""Redis is stopped or killed and comes back, again and again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_redis_restarts(trial: Trial, judged: Callable[..., Any], how: signal.Signals) -> None:
    trial.simulator.settings(predict_min=0.2, predict_max=1.5)
    trial.enqueue(300)
    for _ in range(2):
        trial.worker(creates_per_minute=1800.0)
    trial.wait_until_created(20)
    for _ in range(5):
        time.sleep(trial.random.uniform(0.2, 1.5))
        trial.server.end(how)
        time.sleep(trial.random.uniform(0.0, 4.0))
        trial.server.start()
        trial.record_fault(f"restarts of Redis by {how.name}")
    trial.finish()
    judgement = judged(trial, f"c: Redis ended by {how.name} and started again")
    assert judgement.unknown == 0
