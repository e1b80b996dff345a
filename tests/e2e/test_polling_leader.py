"""Two workers of one account: the polling leader is killed, and the other takes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs.redis_client import keys

FAST = {"creates_per_minute": 60_000.0, "lease": 2.0, "max_in_flight": 150}


async def test_another_worker_leads_after_the_leader_is_killed(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any], redis: Any
) -> None:
    night.simulator.settings(predict_min=3.0, predict_max=4.0)
    night.images(300)
    workers = {str(child.process.pid): child for child in (worker_process(**FAST), worker_process(**FAST))}

    async def leader() -> str:
        holder = await redis.get(keys.lease(f"sweeper:{night.config.api_host}")) or b""
        return holder.decode()

    await eventually(lambda: night.ledger()["created"] >= 290)
    first = await eventually(leader)
    workers.pop(first.split(":")[-2]).kill()
    (left,) = workers.values()
    await eventually(lambda: night.status()["state"] == "finished", 120)
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()
    calls = night.simulator.ledger(summary=True)["calls"]
    assert calls["list"] + calls.get("get", 0) < 150, "one request shows up to 100 predictions, of both workers"
    left.terminate()
    assert left.wait() == 0
    assert "Traceback" not in left.log()
    assert await leader() == ""
