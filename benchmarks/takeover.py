"""How long until another worker takes over the prompts of a killed one."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.figures import Rows
from benchmarks.ground import fresh
from benchmarks.ours import installed
from benchmarks.processes import Measured, RunningServer, server
from benchmarks.races import prompts

PROMPTS = 200
SHARDS = PROMPTS // 100
PATIENCE = 90.0
_BEGUN = re.compile(rb"\xe2\x86\x92 (bench:\d+:\d+)")
"""arq's line when a job begins, which is when the worker has its lease."""


def takeover(times: int) -> Rows:
    """Kill the given number of workers at once; each has a standby worker with free slots."""
    with ThreadPoolExecutor(times) as threads:
        seconds = list(threads.map(lambda _: _kill(), range(times)))
    return {f"kill {number}": {"wall": wall} for number, wall in enumerate(seconds, 1)}


def _kill() -> float:
    with (
        fresh() as folder,
        server(["--model=fixed:120", "--bytes=1000"]) as standing_in,
        installed(folder, standing_in.url, {}) as ours,
    ):
        file = ours.folder / "prompts.jsonl"
        file.write_text("".join(prompts(PROMPTS)))
        ours.enqueue(file)
        victim = ours.worker(log="victim")
        _until_created(standing_in)
        heir = ours.worker(log="heir")
        time.sleep(3)  # it has started, and stands by
        victim.kill()
        killed = time.monotonic()
        try:
            return _until_in_hand(heir) - killed
        finally:
            heir.kill()


def _until_created(standing_in: RunningServer) -> None:
    deadline = time.monotonic() + PATIENCE
    while standing_in.report()["created"] < PROMPTS:
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not create all predictions")
        time.sleep(0.1)


def _until_in_hand(heir: Measured) -> float:
    deadline = time.monotonic() + PATIENCE
    while len(set(_BEGUN.findall(heir.log.read_bytes()))) < SHARDS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody took over:\n{heir.log.read_text()[-2000:]}")
        time.sleep(0.02)
    return time.monotonic()
