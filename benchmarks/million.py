"""A million prompts: to enqueue them beside arq's own ways, and what a worker and Redis need then."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.figures import Figures, Rows
from benchmarks.ground import fresh
from benchmarks.ours import installed
from benchmarks.processes import Measured, Used, server


def million(count: int, working: float, jobs: int) -> Rows:
    """Enqueue so many, then work for some seconds; and so many jobs in arq's own ways: a million take it minutes."""
    with (
        fresh() as folder,
        server(["--model=fixed:10", "--bytes=1000"]) as standing_in,
        installed(folder, standing_in.url, {}) as ours,
    ):
        file = ours.folder / "million.jsonl"
        with file.open("w") as lines:
            lines.writelines(json.dumps({"prompt": f"A lighthouse at dawn, study {i}"}) + "\n" for i in range(count))
        enqueued = ours.enqueue(file)
        memory = ours.redis_memory
        worker = ours.worker()
        time.sleep(working)
        started = time.monotonic()
        ours.status()
        looked = time.monotonic() - started
        used = worker.end()
    return {
        "enqueue": _rate(count, enqueued) | {"redis_mb": memory / 1e6},
        "worker": {"peak_mb": used.peak / 1e6},
        "status": {"wall": looked},
        "arq, enqueue_job in a loop": _arq("loop", jobs),
        "arq, enqueue_job and gather": _arq("gather", jobs),
    }


def _arq(way: str, jobs: int) -> Figures:
    with fresh() as folder, installed(folder, "http://127.0.0.1:1", {}) as ours:
        command = [
            sys.executable,
            "-m",
            "benchmarks.clients.arq_jobs",
            str(jobs),
            way,
            ours.environment["REDIS_URL"],
        ]
        used = Measured(command, {}, ours.folder).wait()
        return _rate(jobs, used) | {"redis_mb": ours.redis_memory / 1e6}


def _rate(count: int, used: Used) -> Figures:
    figures = {"prompts": count, "wall": used.wall, "rate": count / used.wall}
    return figures | {"cpu_ms": used.cpu / count * 1e3, "peak_mb": used.peak / 1e6}
