from __future__ import annotations

from collections.abc import Callable
from typing import Any

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}


async def test_a_stalled_worker_loses_its_shard_and_pays_nothing_twice(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=3.0, predict_max=4.0)
    night.images(60)
    stalled = worker_process(**FAST)
    await eventually(lambda: night.ledger()["created"] == 60)
    stalled.stop()
    other = worker_process(**FAST)
    await eventually(lambda: night.status()["state"] == "finished")
    stalled.cont()
    await eventually(lambda: "the lease was lost" in stalled.log() or stalled.process.poll() is not None)
    for worker in (stalled, other):
        assert worker.process.poll() is None, worker.log()
        worker.terminate()
        assert worker.wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()


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
