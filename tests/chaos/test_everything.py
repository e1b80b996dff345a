"""Everything at once, in random order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos
SECONDS = 45
FAULTS = {
    "error": 0.03, "reset": 0.03, "delay": 0.1, "throttle": 0.02, "lost_answer": 0.1, "failed": 0.05,
    "list_lag": 0.5, "stale_list": 0.3, "truncated_body": 0.05, "broken_body": 0.05, "wrong_bytes": 0.05,
    "data_removed": 0.02, "unknown_status": 0.05, "cut_upload": 0.1, "wrong_upload": 0.1,
}  # fmt: skip


class Storm:
    """What can happen to two workers, Redis and the API; each is over when its method returns."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.random = trial, trial.random
        self.workers = [self.worker(), self.worker()]

    def worker(self) -> Any:
        return self.trial.worker(creates_per_minute=1200.0)

    def kill(self) -> None:
        self.trial.kill(self.workers.pop(self.random.randrange(2)))
        self.workers.append(self.worker())

    def deploy(self) -> None:
        self.workers.append(self.worker())
        self.trial.stop(self.workers.pop(0))
        self.trial.record_fault("SIGTERM")

    def stall(self) -> None:
        worker = self.random.choice(self.workers)
        worker.stop()
        time.sleep(self.random.uniform(1.0, 4.0))
        worker.cont()
        self.trial.record_fault("SIGSTOP")

    def restart_redis(self) -> None:
        self.trial.server.end(self.random.choice([signal.SIGTERM, signal.SIGKILL]))
        time.sleep(self.random.uniform(0.0, 2.0))
        self.trial.server.start()
        self.trial.record_fault("restarts of Redis")

    def hang_api(self) -> None:
        os.kill(self.trial.simulator.pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(1.0, 6.0))
        os.kill(self.trial.simulator.pid, signal.SIGCONT)
        self.trial.record_fault("hangs of the API")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_everything_at_once(trial: Trial, judged: Callable[..., Any], number: int) -> None:
    trial.simulator.settings(predict_min=0.2, predict_max=3.0)
    trial.simulator.control(**FAULTS)
    trial.enqueue(300)
    storm = Storm(trial)
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        time.sleep(trial.random.uniform(0.2, 2.0))
        trial.random.choice([storm.kill, storm.kill, storm.deploy, storm.stall, storm.restart_redis, storm.hang_api])()
    trial.finish(600)
    trial.done["faults"] = sum(trial.simulator.ledger(summary=True)["faults"].values())
    judged(trial, f"j: everything at once, {number}")
