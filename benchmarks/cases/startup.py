"""Start-up times of the embedded server, and of a worker until its first create; the CPU that short commands take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cases.comparison import medians, run
from benchmarks.processes import MeasuredProcess, temporary_folder
from benchmarks.results import Rows
from benchmarks.workloads import Workload
from jobs.redis_client import embedded

COMMAND_TIMES = 9
JOBS = ("-m", "jobs")
COMPLETED = "import sys; sys.argv[0] = 'replicate-batch'; from replicate_batch.__main__ import main; main()"
COMPLETION = {"_REPLICATE_BATCH_COMPLETE": "complete_bash", "COMP_WORDS": "replicate-batch st", "COMP_CWORD": "1"}


def startup(times: int) -> Rows:
    """Medians over the given number of starts."""
    workload = Workload("start", "", 10, (), file_bytes=1_000)
    worker = medians([run(workload, "ours") for _ in range(times)])
    return {
        "embedded server": {"start": statistics.median(_server() for _ in range(times))},
        "worker": {"start": worker["start"], "start_cpu": worker["start_cpu"]},
        **_commands(),
    }


def _commands() -> Rows:
    """Seconds of CPU of commands that people wait for."""
    with temporary_folder() as folder:
        rows = {
            "--help": {"cpu": _cpu(folder, (*JOBS, "--help"))},
            "status, nothing enqueued": {"cpu": _cpu(folder, (*JOBS, "status"))},
            "completion": {"cpu": _cpu(folder, ("-c", COMPLETED), COMPLETION)},
        }
        (folder / "night.txt").write_text("a cat\n")
        order = (*JOBS, "enqueue", "night.txt", "--model", "owner/name", "--no-model-check")
        try:
            _command(folder, order)
            rows["status, one batch"] = {"cpu": _cpu(folder, (*JOBS, "status"))}
        finally:
            embedded.stop(folder / ".redis")
        return rows


def _cpu(folder: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    return statistics.median(_command(folder, arguments, environment) for _ in range(COMMAND_TIMES))


def _command(folder: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    cached = {"PYTHONDONTWRITEBYTECODE": "", **(environment or {})}
    return MeasuredProcess([sys.executable, *arguments], cached, folder).wait().cpu


def _server() -> float:
    with temporary_folder() as folder:
        directory = folder / "redis"
        started = time.monotonic()
        embedded.ensure_running(directory)
        try:
            return time.monotonic() - started
        finally:
            embedded.stop(directory)
