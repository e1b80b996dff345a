"""The disk fills while outputs are being saved, and is emptied again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import small_disk
from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos


@pytest.mark.skipif(not small_disk.possible(), reason="no tmpfs in a user namespace here; RLIMIT_FSIZE is tried")
def test_a_full_disk(trial: Trial, judged: Callable[..., Any]) -> None:
    with small_disk.small_disk(trial.config.output_dir, "24m") as disk:
        trial.within, trial.root = disk.within, disk.root
        trial.enqueue()
        trial.worker(creates_per_minute=1800.0)
        for most in (40, 120):
            trial.wait_until_settled(most)
            disk.fill()
            trial.wait_until(lambda: "disk is full" in str(trial.status()["reason"]))
            time.sleep(5)
            disk.empty()
            trial.record_fault("times a full tmpfs")
        trial.finish()
        judged(trial, "f: the disk full for 5 s")


def test_files_that_may_not_grow(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.enqueue()
    worker = trial.worker(creates_per_minute=1800.0)
    for most in (40, 120):
        trial.wait_until_settled(most)
        worker.process.send_signal(signal.SIGUSR1)
        trial.wait_until(lambda: trial.status()["reason"])
        time.sleep(5)
        worker.process.send_signal(signal.SIGUSR2)
        trial.record_fault("times RLIMIT_FSIZE 0")
    trial.finish()
    judged(trial, "f: no file may grow for 5 s")
