"""Start-up times of the embedded server, and of a worker until its first create."""

from __future__ import annotations

import statistics
import time

from benchmarks.cases.comparison import medians, run
from benchmarks.processes import temporary_folder
from benchmarks.results import Rows
from benchmarks.workloads import Workload
from jobs.redis_client import embedded


def startup(times: int) -> Rows:
    """Medians over the given number of starts."""
    workload = Workload("start", "", 10, (), file_bytes=1_000)
    worker = medians([run(workload, "ours") for _ in range(times)])
    return {
        "embedded server": {"start": statistics.median(_server() for _ in range(times))},
        "worker": {"start": worker["start"], "start_cpu": worker["start_cpu"]},
    }


def _server() -> float:
    with temporary_folder() as folder:
        directory = folder / "redis"
        started = time.monotonic()
        embedded.ensure_running(directory)
        try:
            return time.monotonic() - started
        finally:
            embedded.stop(directory)
