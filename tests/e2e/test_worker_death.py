from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.redis_client import keys

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}

POISONED = """
import os, signal, sys
from worker.shard import run

async def read_pending(*_):
    os.kill(os.getpid(), signal.SIGKILL)

run.read_pending = read_pending
sys.argv[1:] = ["worker.Settings", "--burst"]
from arq.cli import cli
cli()
"""


@pytest.fixture
def poisoned(child_env: dict[str, str], nursery: Any) -> Callable[[], int]:
    """A worker that is killed by each shard that it takes, and what it ends with."""

    def run() -> int:
        code: int = nursery.start("-c", POISONED, env=child_env | {"BATCH_LEASE": "1"}).wait()
        return code

    return run


def test_a_shard_that_kills_its_workers_is_set_aside_until_retry(
    night: Any, worker_process: Callable[..., Any], poisoned: Callable[[], int]
) -> None:
    night.images(3)
    assert [poisoned() for _ in range(4)] == [-9, -9, -9, 0]
    watched = night.cli("watch", night.name, "--json")
    assert watched.code == 1
    status = json.loads(watched.out.splitlines()[-1])
    assert (status["dead_letters"], status["stuck"], status["failed"]) == (["night:0:0"], True, 0)
    assert "prompts 1 to 3 are a dead letter: 3 of its runs died" in status["reason"]
    assert "`python -m jobs retry night`" in status["reason"]
    again = night.cli("run", str(night.config.output_dir.parent / "night.jsonl"))
    assert again.code == 1
    assert "night cannot continue: prompts 1 to 3 are a dead letter" in again.out
    assert night.ledger()["created"] == 0

    assert night.retry()["enqueued"] == 3
    assert worker_process("--burst", **FAST).wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()


async def test_a_full_worker_saves_what_a_killed_one_left_running(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    long = replace(night, name="long")
    long.enqueue(*[{"model": "simulator/image", "input": {"prompt": "x", "predict_time": 600}}] * 200)
    full = worker_process(max_in_flight=2, **FAST)  # and so with two job slots, for the two long shards
    await eventually(lambda: night.ledger()["created"] == 2)
    night.simulator.settings(predict_min=2.0, predict_max=3.0)
    night.images(20)
    killed = worker_process(**FAST)
    await eventually(lambda: night.ledger()["created"] == 22)
    killed.kill()
    await eventually((night.folder / "results.jsonl").exists)
    assert "nobody has a slot for it" in full.log()
    await eventually(lambda: night.status()["state"] == "finished")
    assert {result["status"] for result in night.check()} == {"succeeded"}
    assert night.ledger()["created"] == 22
    full.terminate()
    assert full.wait() == 0
    assert "Traceback" not in full.log()


async def test_a_shard_whose_payload_is_gone_is_set_aside(
    night: Any, worker_process: Callable[..., Any], redis: Any
) -> None:
    night.images(3)
    await redis.delete(keys.ARQ_JOB + "night:0:0")
    worker = worker_process("--burst", **FAST)
    assert worker.wait() == 0
    assert "night:0:0 is a dead letter: its payload is gone from Redis" in worker.log()
    assert night.status()["dead_letters"] == ["night:0:0"]
    assert night.retry()["enqueued"] == 3
