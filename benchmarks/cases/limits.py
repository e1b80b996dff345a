"""A real rate limit: how much of it is used, with each kind of limiter and with one worker and four."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.cases.comparison import prompts
from benchmarks.installation import install
from benchmarks.processes import temporary_folder
from benchmarks.results import Figures, Rows
from simulator.process import RunningSimulator, running

KINDS = ("sliding", "fixed", "bucket")
WORKERS = (1, 4)
CREATES, READS = 600, 3000
"""Replicate's limits, a minute."""

AT_ONCE = 3
COLD = 5.0
"""Seconds after the first create that `pace` leaves out: a first burst must not hide a slow pace."""


def limits(seconds: float) -> Rows:
    """Measure several cases at once, but not all: workers are mostly idle, and need a core when a create is due."""
    cases = {f"{kind}, {count} worker{'s' * (count > 1)}": (kind, count) for count in WORKERS for kind in KINDS}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        figures = threads.map(lambda case: _case(case[0], case[1], seconds), cases.values())
        return dict(zip(cases, figures, strict=True))


def _case(kind: str, workers: int, seconds: float) -> Figures:
    more = {"BATCH_CREATES_PER_MINUTE": str(CREATES), "BATCH_READS_PER_MINUTE": str(READS)}
    with (
        temporary_folder() as folder,
        running(limiter=kind, limit_creates=CREATES, limit_reads=READS, loose=0, seed=1) as simulator,
        install(folder, simulator.url, more) as ours,
    ):
        file = ours.folder / "prompts.jsonl"
        file.write_text("".join(prompts(int(CREATES / 60 * seconds * 1.2) + 100, "simulator/text", predict_time=2)))
        ours.enqueue(file)
        started = [ours.worker() for _ in range(workers)]
        _wait_for_first(simulator)
        time.sleep(seconds)
        ledger = simulator.ledger()
        for worker in started:
            worker.end()
    return _figures(ledger, seconds)


def _wait_for_first(simulator: RunningSimulator) -> None:
    deadline = time.monotonic() + 60
    while not simulator.ledger(summary=True)["created"]:
        if time.monotonic() > deadline:
            raise RuntimeError("nothing was created for a minute")
        time.sleep(0.05)


def _figures(ledger: dict[str, Any], seconds: float) -> Figures:
    times = sorted(create["created_at"] for create in ledger["creates"])
    after = [moment - times[0] for moment in times]
    per_second = CREATES / 60
    return {
        "create": len(times),
        "share": sum(moment <= seconds for moment in after) / (per_second * seconds),
        "pace": sum(COLD < moment <= seconds for moment in after) / (per_second * (seconds - COLD)),
        "throttled": ledger["throttled"],
        "get": ledger["calls"].get("get", 0),
        "list": ledger["calls"].get("list", 0),
    }
