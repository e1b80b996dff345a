from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobs.redis_client import keys

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}


async def test_a_stalled_worker_loses_its_shard_and_pays_nothing_twice(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=3.0, predict_max=4.0)
    night.images(60)
    stalled = worker_process(max_in_flight=20, **FAST)
    await eventually(lambda: night.ledger()["created"] == 20)
    stalled.stop()
    other = worker_process(**FAST)
    await eventually(lambda: night.ledger()["created"] == 60)
    stalled.cont()
    await eventually(lambda: "the lease was lost" in stalled.log() or stalled.process.poll() is not None)
    await eventually(lambda: night.status()["state"] == "finished")
    other.terminate()
    assert other.wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()
    night.simulator.settings(predict_min=0.0, predict_max=0.1)
    next_night = replace(night, name="next")
    next_night.images(3)
    await eventually(lambda: next_night.status()["state"] == "finished")  # the one that stalled goes on with others
    stalled.terminate()
    assert stalled.wait() == 0
    assert "Traceback" not in stalled.log()


async def test_a_worker_that_stalled_alone_takes_its_own_shard_up_again(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=3.0, predict_max=4.0)
    night.images(60)
    worker = worker_process("--burst", **FAST)
    await eventually(lambda: night.ledger()["created"] == 60)
    worker.stop()
    await eventually(lambda: night.redis_has_no("*lease:night*"))
    worker.cont()
    assert worker.wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()


async def test_a_worker_that_waits_for_a_lease_stops_at_once_and_leaves_the_shard(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any], redis: Any
) -> None:
    night.images(3)
    await redis.set(keys.lease("night:0"), "somebody else", px=600_000)
    waiting = worker_process(**FAST)
    await eventually(lambda: redis.exists(keys.ARQ_IN_PROGRESS + "night:0:0"))
    waiting.terminate()
    assert waiting.wait(20) == 0
    assert "Traceback" not in waiting.log()
    await redis.delete(keys.lease("night:0"))
    assert worker_process("--burst", **FAST).wait() == 0
    night.check()
    night.paid_once()


async def test_a_restart_of_redis_is_waited_out(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Any
) -> None:
    """The embedded server is killed, and the worker starts it again on the same data."""
    embedded = {"redis_url": None, "redis_dir": tmp_path / "r"}
    night.simulator.settings(predict_min=1.0, predict_max=2.0)
    night.images(40, **embedded)
    worker = worker_process("--burst", **FAST, **embedded)
    await eventually(lambda: night.ledger()["created"] == 40)
    os.kill(int((tmp_path / "r" / "valkey.pid").read_text()), signal.SIGKILL)
    try:
        assert worker.wait() == 0
        night.check()
        night.paid_once()
        assert "Traceback" not in worker.log()
    finally:
        assert night.cli("redis-stop", **embedded).code == 0


async def test_a_retry_that_waits_for_its_shard_survives_a_stop(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any], redis: Any
) -> None:
    """The new generation's job waits for the shard's lease, for longer than arq's own mark of ten seconds lasts."""
    night.enqueue(
        {"id": "quick", "model": "simulator/flaky", "input": {"prompt": "x", "error": "model", "times": 1}},
        {"id": "slow", "model": "simulator/slow", "input": {"prompt": "x", "predict_time": 20}},
    )
    first = worker_process(**FAST)
    await eventually(lambda: night.status()["failed"] == 1)
    assert night.retry()["enqueued"] == 1
    await asyncio.sleep(12)
    first.terminate()
    assert first.wait(20) == 0
    assert "Traceback" not in first.log()
    assert await redis.zcard(keys.queue(night.config.api_host)) == 2
    assert worker_process("--burst", **FAST).wait() == 0
    assert [result["status"] for result in night.check()] == ["succeeded", "succeeded"]
    assert night.ledger()["created"] == 3


async def test_cancel_and_retry_at_once_leave_nothing_behind(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=1.0, predict_max=2.0)
    night.images(30)
    worker = worker_process(**FAST)
    await eventually(lambda: night.ledger()["created"] > 5)
    night.ask(lambda desk: desk.cancel(night.name))
    night.retry()
    await eventually(lambda: night.status()["state"] == "finished")
    worker.terminate()
    assert worker.wait() == 0
    assert {result["status"] for result in night.check()} <= {"succeeded", "canceled"}
