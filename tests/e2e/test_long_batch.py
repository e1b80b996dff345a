"""A batch may take longer than anything lives that Redis forgets by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis import Redis

from jobs.verify.verify import verify

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}
HOUR = 3_600_000
RENEWED = 60_000
"""Milliseconds: what lives no longer is renewed all the time, or is of the moment."""


def pass_hours(redis: Any, hours: int) -> set[str]:
    """Let every key that expires be so much nearer to its end; the kinds of those that have come to it."""
    gone = set()
    for key in redis.scan_iter():
        left = redis.pttl(key)
        if left > RENEWED:
            redis.pexpire(key, left - hours * HOUR)
            if left <= hours * HOUR:
                gone.add(key.decode().removeprefix("replicate-batch:").rpartition(":")[0].partition(":")[0])
    return gone


async def test_a_batch_of_more_than_a_day_loses_and_repeats_nothing(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Seven hours pass five times; claims of what is in flight go too, which in real time nothing survives for."""
    night.simulator.settings(predict_min=0.1, predict_max=0.3)
    night.images(450)
    killed = worker_process(max_in_flight=20, **FAST)
    gone = set()
    with Redis.from_url(night.config.redis_url.get_secret_value()) as redis:
        for created in (30, 60, 90, 120, 150):
            await eventually(lambda least=created: night.ledger()["created"] >= least)
            gone |= pass_hours(redis, 7)
            if created == 90:
                killed.kill()
                worker_process(max_in_flight=20, **FAST)
    await eventually(lambda: night.status()["state"] == "finished", 120)
    assert "claim" in gone
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()
    assert (await asyncio.to_thread(verify, night.name, night.config)).agrees
