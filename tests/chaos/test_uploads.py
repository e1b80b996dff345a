"""Local files as inputs: answers to uploads are lost or wrong, and uploads expire while their batch runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.trial import FILES, Trial

WRONG = {
    "lost_answer": {"rate": 0.3, "kinds": ["upload", "files"], "how": "reset"},
    "cut_upload": 0.1,
    "wrong_upload": 0.1,
    "bare_upload": {"rate": 0.3, "hidden": ["expires_at", "etag"]},
    "error": {"rate": 0.1, "kinds": ["upload", "files"]},
    "throttle": {"rate": 0.1, "kinds": ["upload", "files"], "seconds": 1},
}
PACE = 600.0
"""Creates a minute of each worker: the batch takes longer than its uploads live."""

SHORT = 6.0
"""Seconds that an upload lives; half of them it is used."""


def test_two_workers_upload_each_file_once(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.enqueue(120)
    for _ in range(2):
        trial.worker()
    trial.restart_clock()
    trial.finish()
    assert judged(trial, "k: two workers, without a fault").ledger["uploaded"] == FILES


@pytest.mark.chaos
def test_uploads_go_wrong(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.simulator.control(**WRONG)
    trial.enqueue()
    for _ in range(2):
        trial.worker()
    trial.restart_clock()
    trial.finish()
    trial.done["faults"] = sum(trial.simulator.ledger(summary=True)["faults"].values())
    judged(trial, "k: uploads go wrong in every way")


@pytest.mark.chaos
def test_uploads_expire_while_their_batch_runs(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.simulator.control(
        short_upload={"rate": 1.0, "seconds": SHORT}, lost_answer={"rate": 0.1, "kinds": ["create"], "how": "reset"}
    )
    trial.enqueue(300)
    workers = [trial.worker(creates_per_minute=PACE) for _ in range(2)]
    trial.wait_until_settled(100)
    trial.kill(workers[0])
    trial.finish()
    assert judged(trial, f"k: uploads expire after {SHORT:g} s").ledger["uploaded"] > 2 * FILES
