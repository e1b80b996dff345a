"""A million prompts: to enqueue them beside arq's own ways, and what a worker and Redis need then."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figures, Rows
from benchmarks.ours import installed
from benchmarks.processes import Measured, Used, server

ARQ_JOBS = 20_000
"""Enough for a rate: arq's way takes minutes for a million."""

WORKING = 30.0
"""Seconds that a worker works before a million."""


def million(count: int) -> Rows:
    """Enqueue so many, then work a little."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        server(["--model=fixed:10", "--bytes=1000"]) as standing_in,
        installed(Path(name), standing_in.url, {}) as ours,
    ):
        file = ours.folder / "million.jsonl"
        with file.open("w") as lines:
            lines.writelines(json.dumps({"prompt": f"A lighthouse at dawn, study {i}"}) + "\n" for i in range(count))
        enqueued = ours.enqueue(file)
        memory = ours.redis_memory
        worker = ours.worker()
        time.sleep(WORKING)
        started = time.monotonic()
        ours.status()
        looked = time.monotonic() - started
        used = worker.end()
    return {
        "enqueue": _rate(count, enqueued) | {"redis_mb": memory / 1e6},
        "worker": {"peak_mb": used.peak / 1e6},
        "status": {"wall": looked},
        "arq, enqueue_job in a loop": _arq("loop"),
        "arq, enqueue_job and gather": _arq("gather"),
    }


def _arq(way: str) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as name, installed(Path(name), "http://127.0.0.1:1", {}) as ours:
        command = [
            sys.executable,
            "-m",
            "benchmarks.clients.arq_jobs",
            str(ARQ_JOBS),
            way,
            ours.environment["REDIS_URL"],
        ]
        used = Measured(command, {}, ours.folder).wait()
        return _rate(ARQ_JOBS, used) | {"redis_mb": ours.redis_memory / 1e6}


def _rate(count: int, used: Used) -> Figures:
    return {"wall": used.wall, "rate": count / used.wall, "cpu_ms": used.cpu / count * 1e3, "peak_mb": used.peak / 1e6}
