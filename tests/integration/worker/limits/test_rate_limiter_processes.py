from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from worker.limits.rate_limiter import RateLimiter

API_HOST = "api.test"
LIMIT, BURST, PACE = 1200, 6, 1200 / 60 * 0.985
LATE = 0.5  # by design, a start time may be used so late

CHILD = """
import asyncio, sys, time
from jobs.redis_client.client import connect
from worker.limits.rate_limiter import RateLimiter

async def taker(limiter):
    while True:
        await limiter.acquire("create")
        print(f"at {time.monotonic()}", flush=True)
        await limiter.finish_request("create")

async def main(url, api_host, limit):
    redis = connect(url, patient=True)
    async with RateLimiter(redis, api_host, {"create": float(limit)}) as limiter:
        takers = [asyncio.create_task(taker(limiter)) for _ in range(50)]
        await asyncio.sleep(0)
        print("ready", flush=True)
        await asyncio.gather(*takers)

asyncio.run(main(*sys.argv[1:]))
"""


class Crowd:
    """Four processes that take whatever they get; paused until `start`."""

    def __init__(self, redis: Redis, children: list[Any]) -> None:
        self.redis, self.children = redis, children

    async def start(self) -> None:
        await self.redis.delete(keys.pause(API_HOST))

    async def stop(self) -> None:
        await self.redis.set(keys.pause(API_HOST), "stop")

    def grants(self, child: Any) -> list[float]:
        whole_lines = child.log().rpartition("\n")[0].splitlines()
        return [float(line[3:]) for line in whole_lines if line.startswith("at ")]

    def all(self) -> list[float]:
        return sorted(at for child in self.children for at in self.grants(child))


@pytest.fixture
async def crowd(redis: Redis, redis_url: str, nursery: Any, eventually: Callable[..., Any]) -> Any:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    crowd = Crowd(redis, [])
    await crowd.stop()
    crowd.children = [nursery.start("-c", CHILD, redis_url, API_HOST, str(LIMIT), env=env) for _ in range(4)]
    await eventually(lambda: all("ready" in child.log() for child in crowd.children))
    return crowd


def burst_of(times: list[float]) -> float:
    """How many more than PACE allows came in the worst window, of any length."""
    worst = lowest = 0.0
    for count, at in enumerate(times):
        lead = count - at * PACE
        lowest = min(lowest, lead) if count else lead
        worst = max(worst, lead + 1 - lowest)
    return worst


def test_the_judge_sees_a_burst_and_a_wrong_pace() -> None:
    steady = [number / PACE for number in range(100)]
    assert burst_of(steady) == pytest.approx(1)
    assert burst_of(sorted([*steady, *[2.0] * 10])) == pytest.approx(11, abs=1)
    assert burst_of([at / 2 for at in steady]) > 40


async def test_four_processes_share_one_limit(crowd: Crowd, eventually: Callable[..., Any]) -> None:
    await crowd.start()
    await eventually(lambda: len(crowd.all()) >= 80)
    await crowd.stop()
    times = crowd.all()
    assert burst_of(times) <= BURST + LATE * PACE + 1
    assert len(times) >= 0.7 * (BURST + PACE * (times[-1] - times[0])), "and they use it"
    assert min(len(crowd.grants(child)) for child in crowd.children) >= 5, "and each has a share"


async def test_a_killed_process_leaves_the_limit_to_the_others(crowd: Crowd, eventually: Callable[..., Any]) -> None:
    await crowd.start()
    await eventually(lambda: len(crowd.all()) >= 20)
    crowd.children[0].kill()
    killed_at, before = time.monotonic(), len(crowd.all())
    await eventually(lambda: len(crowd.all()) >= before + 40)
    times = crowd.all()
    assert burst_of(times) <= BURST + LATE * PACE + 1
    after = [at for at in times if at > killed_at]
    assert len(after) >= 0.6 * PACE * (after[-1] - killed_at)


async def test_a_429_of_one_process_holds_back_all(crowd: Crowd, redis: Redis, eventually: Callable[..., Any]) -> None:
    await crowd.start()
    await eventually(lambda: len(crowd.all()) >= 20)
    await RateLimiter(redis, API_HOST, {"create": LIMIT}).hold("create", 1.5)
    held_at = time.monotonic()
    before = len(crowd.all())
    await eventually(lambda: len(crowd.all()) >= before + 20)
    times = crowd.all()
    assert [at for at in times if held_at + LATE < at < held_at + 1.4] == []
    assert burst_of([at for at in times if at > held_at + 1.4]) <= 1 + LATE * PACE + 1, "and then there is no burst"


async def test_a_pause_stops_all_until_it_is_resumed(crowd: Crowd, eventually: Callable[..., Any]) -> None:
    await crowd.start()
    await eventually(lambda: len(crowd.all()) >= 20)
    await crowd.stop()
    paused_at = time.monotonic()
    await asyncio.sleep(1)
    resumed_at = time.monotonic()
    await crowd.start()
    await eventually(lambda: crowd.all()[-1] > resumed_at)
    assert [at for at in crowd.all() if paused_at + LATE < at < resumed_at] == []
