"""The API does everything that it can do wrong; lost answers with a list that lags; and the API is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from simulator.faults import FAULTS
from tests.chaos.servers import Gateway
from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos
OPTIONS: dict[str, dict[str, Any]] = {
    "hang": {"seconds": 20},
    "unauthorized": {"kinds": ["create"]},
    "slow_body": {"seconds": 1.0},
    "cut_upload": {"rate": 0, "next": 2},
    "wrong_upload": {"rate": 0, "next": 2},
    "short_upload": {"rate": 0, "next": 2, "seconds": 10},
    "bare_upload": {"rate": 0, "next": 2, "hidden": ["expires_at", "etag"]},
}
"""How, for those that would take too long otherwise, pause everything at every look, or hit only a few calls."""


def every_fault(rate: float) -> dict[str, Any]:
    return {name: {"rate": rate} | OPTIONS.get(name, {}) for name in FAULTS}


def test_every_fault_at_once(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.refusals = True
    trial.simulator.control(**every_fault(0.05))
    trial.enqueue()
    for _ in range(2):
        trial.worker()
    trial.restart_clock()
    trial.finish(900)
    struck = trial.simulator.ledger(summary=True)["faults"]
    assert set(struck) == set(FAULTS)
    trial.done["faults"] = sum(struck.values())
    judged(trial, "d: every fault of the simulator at 5 %, all together")


def test_lost_answers_and_a_list_that_lags(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.use_real_timing()
    trial.simulator.control(
        lost_answer={"rate": 0.2, "how": "reset"}, list_lag={"rate": 1.0, "seconds": 20}, stale_list=0.2
    )
    trial.enqueue()
    trial.worker()
    trial.restart_clock()
    trial.finish()
    trial.done["lost answers"] = trial.simulator.ledger(summary=True)["faults"]["lost_answer"]
    judgement = judged(trial, "e: 20 % of the creates' answers lost, the list lags 20 s")
    assert judgement.unknown == 0
    assert not judgement.strangers


def test_the_api_hangs_for_a_minute(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.use_real_timing()
    trial.enqueue()
    worker = trial.worker(creates_per_minute=1800.0)
    trial.wait_until_created(50)
    os.kill(trial.simulator.pid, signal.SIGSTOP)
    try:
        time.sleep(60)
    finally:
        os.kill(trial.simulator.pid, signal.SIGCONT)
    assert worker.process.poll() is None
    trial.record_fault("minute without answers")
    trial.finish()
    judged(trial, "i: the API hangs for a minute")


@pytest.fixture
def gateway(trial: Trial) -> Iterator[Gateway]:
    gateway = Gateway(urlsplit(trial.simulator.url).netloc)
    trial.config = trial.config.model_copy(update={"replicate_base_url": f"http://{gateway.address}"})
    yield gateway
    gateway.close()


def test_the_api_refuses_connections_for_a_minute(trial: Trial, judged: Callable[..., Any], gateway: Gateway) -> None:
    trial.use_real_timing()
    trial.enqueue()
    worker = trial.worker(creates_per_minute=1800.0)
    trial.wait_until_created(50)
    gateway.close()
    time.sleep(60)
    gateway.open()
    assert worker.process.poll() is None
    trial.record_fault("minute without connections")
    trial.finish()
    judged(trial, "i: the API refuses connections for a minute")
