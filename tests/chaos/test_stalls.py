"""A worker is stopped past its lease (a laptop's lid, a swapping machine), then continues."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.points import Point
from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos
ANSWERED = Point("jobs.replicate_api.predictions:Replicate.create", "after", 40)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("others", [0, 1])
def test_a_stalled_worker(trial: Trial, judged: Callable[..., Any], others: int, *, real: bool) -> None:
    if real:
        trial.use_real_timing()
    trial.simulator.settings(predict_min=0.5, predict_max=3.0)
    trial.enqueue()
    worker = trial.worker(creates_per_minute=1800.0)
    for _ in range(2):
        trial.wait_until_settled(trial.settled() + 30)
        worker.stop()
        for _ in range(others - len(trial.living()) + 1):
            trial.worker(creates_per_minute=1800.0)
        trial.wait_until(lambda: not trial.shards_of(worker))
        time.sleep(1)
        worker.cont()
        trial.record_fault("SIGSTOP past the lease")
    trial.finish()
    judged(
        trial,
        f"g: a worker stalled past its lease of {trial.config.lease:g} s, " + ("with another" if others else "alone"),
    )
    assert "lease was lost" in worker.log() or others


@pytest.mark.parametrize("runs", [1.0, 25.0])
def test_an_answer_that_comes_after_its_create_was_replaced(
    trial: Trial, judged: Callable[..., Any], runs: float
) -> None:
    """The worker stops before it processes an answer; the list never shows it, so another worker creates again."""
    trial.simulator.settings(predict_min=runs, predict_max=runs)
    trial.simulator.control(list_lag={"rate": 1.0, "seconds": 600})
    trial.enqueue()
    stalled = trial.worker(ANSWERED, signal.SIGSTOP)
    trial.wait_until(lambda: trial.stopped(stalled))
    trial.simulator.settings(predict_min=0.1, predict_max=0.5)
    trial.worker()
    trial.wait_until(lambda: trial.counted("unknown_creates"))
    stalled.cont()
    trial.record_fault("SIGSTOP at an answer")
    trial.finish()
    judgement = judged(trial, f"g: answers after their creates were replaced, runs of {runs:g} s")
    assert judgement.unknown > 0
