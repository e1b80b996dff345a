"""Random SIGKILLs of two workers, rolling deploys, and how soon another worker takes over a dead worker's prompts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos
PACE = 1800.0
"""Creates a minute: slow enough for kills to fall everywhere in a batch."""

PROMISED = 5.0
"""Seconds beyond a lease's time within which a dead worker's shards are in hand again."""


@pytest.mark.parametrize("times", [8, 12, 16])
def test_two_workers_killed_at_random(trial: Trial, judged: Callable[..., Any], times: int) -> None:
    trial.simulator.settings(predict_min=0.2, predict_max=1.5)
    trial.enqueue(300)
    workers = [trial.worker(creates_per_minute=PACE), trial.worker(creates_per_minute=PACE)]
    for _ in range(times):
        time.sleep(trial.random.uniform(0.3, 3.0))
        trial.kill(workers.pop(trial.random.randrange(2)))
        workers.append(trial.worker(creates_per_minute=PACE))
    trial.finish()
    assert not judged(trial, f"b: two workers, one killed at random, {times} times").unclaimed


@pytest.mark.parametrize("others", [0, 1])
def test_killed_with_the_constants_of_the_product(trial: Trial, judged: Callable[..., Any], others: int) -> None:
    trial.use_real_timing()
    trial.simulator.settings(predict_min=1.0, predict_max=5.0)
    trial.enqueue()
    worker = trial.worker()
    trial.wait_until_created(100)
    for _ in range(others):
        trial.worker()
    trial.kill(worker)
    for _ in range(1 - others):
        trial.worker()
    trial.finish()
    judged(trial, "b: killed, " + ("another worker there" if others else "alone, started again"))
    assert trial.taken_over_at - trial.fault_at <= trial.config.lease + PROMISED


def test_deploys_every_few_seconds(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.simulator.settings(predict_min=0.5, predict_max=4.0)
    trial.simulator.control(delay={"rate": 0.5, "kinds": ["create"], "seconds": 0.3})
    trial.enqueue(300)
    workers = [trial.worker(creates_per_minute=PACE / 3) for _ in range(2)]
    for _ in range(8):
        time.sleep(trial.random.uniform(1.0, 3.0))
        workers.append(trial.worker(creates_per_minute=PACE / 3))
        trial.stop(workers.pop(0))
        trial.record_fault("SIGTERM")
    trial.finish()
    judgement = judged(trial, "h: SIGTERM every few seconds, as in rolling deploys")
    assert judgement.unknown == 0
