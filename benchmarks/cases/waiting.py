"""What a worker costs while it waits: for predictions that run for a minute, and for nothing."""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.cases.comparison import prompts
from benchmarks.installation import install
from benchmarks.processes import MeasuredProcess, start_server, temporary_folder
from benchmarks.results import Rows
from benchmarks.workloads import Workload

IN_FLIGHT = 1_000
CREATED_AFTER = 15.0
"""Seconds until all are created."""

MEASURED_SECONDS = 25.0
SETTINGS = {"BATCH_CREATES_PER_MINUTE": "60000"}
MINUTE = Workload("waiting", "", IN_FLIGHT, (), model="fixed:60", file_bytes=1_000)


def waiting() -> Rows:
    """The share of a core that a worker uses."""
    return {
        "1,000 predictions of 60 s": {"core": _share_of_a_core(MINUTE, CREATED_AFTER)},
        "nothing": {"core": _share_of_a_core(replace(MINUTE, prompts=0), 3.0)},
    }


def _share_of_a_core(workload: Workload, after: float) -> float:
    with (
        temporary_folder() as folder,
        start_server(workload.server_flags()) as server,
        install(folder, server.url, SETTINGS) as ours,
    ):
        if workload.prompts:
            file = folder / "prompts.jsonl"
            file.write_text("".join(prompts(workload.prompts)))
            ours.enqueue(file)
        worker = ours.worker()
        try:
            time.sleep(after)
            return _measure(worker)
        finally:
            worker.kill()


def _measure(worker: MeasuredProcess) -> float:
    began, before = time.monotonic(), worker.cpu_so_far()
    time.sleep(MEASURED_SECONDS)
    return (worker.cpu_so_far() - before) / (time.monotonic() - began)
