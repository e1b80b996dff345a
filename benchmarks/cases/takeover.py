"""Takeover: how long until another worker runs the prompts of a killed one."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.cases.comparison import prompts
from benchmarks.installation import install
from benchmarks.processes import MeasuredProcess, RunningServer, start_server, temporary_folder
from benchmarks.results import Rows

PROMPTS = 200
SHARDS = PROMPTS // 100
TIMEOUT = 90.0
_BEGUN = re.compile(rb"\xe2\x86\x92 (bench:\d+:\d+)")
"""arq's line when a job begins, which is when the worker has its lease."""


def takeover(times: int) -> Rows:
    """Kill the given number of workers at once; each has a standby worker with free slots."""
    with ThreadPoolExecutor(times) as threads:
        seconds = list(threads.map(lambda _: _kill(), range(times)))
    return {f"kill {number}": {"wall": wall} for number, wall in enumerate(seconds, 1)}


def _kill() -> float:
    with (
        temporary_folder() as folder,
        start_server(["--model=fixed:120", "--bytes=1000"]) as server,
        install(folder, server.url, {}) as ours,
    ):
        file = ours.folder / "prompts.jsonl"
        file.write_text("".join(prompts(PROMPTS)))
        ours.enqueue(file)
        victim = ours.worker(log="victim")
        _wait_until_created(server)
        standby = ours.worker(log="standby")
        time.sleep(3)  # until it has started
        victim.kill()
        killed = time.monotonic()
        try:
            return _wait_until_taken_over(standby) - killed
        finally:
            standby.kill()


def _wait_until_created(server: RunningServer) -> None:
    deadline = time.monotonic() + TIMEOUT
    while server.report()["created"] < PROMPTS:
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not create all predictions")
        time.sleep(0.1)


def _wait_until_taken_over(standby: MeasuredProcess) -> float:
    deadline = time.monotonic() + TIMEOUT
    while len(set(_BEGUN.findall(standby.log.read_bytes()))) < SHARDS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody took over:\n{standby.log.read_text()[-2000:]}")
        time.sleep(0.02)
    return time.monotonic()
