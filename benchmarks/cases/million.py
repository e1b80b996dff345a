"""A million prompts: enqueuing them compared with arq's own ways, the memory of a worker and of Redis, and the end."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.cases.closing import close_batch
from benchmarks.installation import install
from benchmarks.processes import MeasuredProcess, Usage, start_server, temporary_folder
from benchmarks.results import Figures, Rows


def million(count: int, working: float, jobs: int) -> Rows:
    """Enqueue `count` prompts, work for some seconds, and close a batch; enqueue `jobs` jobs in arq's own ways."""
    with (
        temporary_folder() as folder,
        start_server(["--model=fixed:10", "--bytes=1000"]) as server,
        install(folder, server.url, {}) as ours,
    ):
        file = ours.folder / "million.jsonl"
        with file.open("w") as lines:
            lines.writelines(json.dumps({"prompt": f"A lighthouse at dawn, study {i}"}) + "\n" for i in range(count))
        checked, enqueued = ours.check(file), ours.enqueue(file)
        memory = ours.redis_memory
        worker = ours.worker()
        time.sleep(working)
        started = time.monotonic()
        ours.status()
        status_seconds = time.monotonic() - started
        used = worker.end()
    return {
        "check against a schema": _rate(count, checked),
        "enqueue": _rate(count, enqueued) | {"redis_mb": memory / 1e6},
        "worker": {"peak_mb": used.peak / 1e6},
        "status": {"wall": status_seconds},
        "close a tenth": _rate(max(count // 10, 1), close_batch(max(count // 10, 1))),
        "close": _rate(count, close_batch(count)),
        "arq, enqueue_job in a loop": _arq("loop", jobs),
        "arq, enqueue_job and gather": _arq("gather", jobs),
    }


def _arq(way: str, jobs: int) -> Figures:
    with temporary_folder() as folder, install(folder, "http://127.0.0.1:1", {}) as ours:
        command = [
            sys.executable,
            "-m",
            "benchmarks.clients.arq_jobs",
            str(jobs),
            way,
            ours.environment["REDIS_URL"],
        ]
        used = MeasuredProcess(command, {}, ours.folder).wait()
        return _rate(jobs, used) | {"redis_mb": ours.redis_memory / 1e6}


def _rate(count: int, used: Usage) -> Figures:
    figures = {"prompts": count, "wall": used.wall, "rate": count / used.wall}
    return figures | {"cpu_ms": used.cpu / count * 1e3, "peak_mb": used.peak / 1e6}
