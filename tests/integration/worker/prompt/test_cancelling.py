from __future__ import annotations

import asyncio

from jobs.redis_client.resilience import Redis


async def test_a_cancel_is_never_swallowed_by_a_command_under_way(redis: Redis) -> None:
    """On Python 3.11 `asyncio.wait_for`, which redis-py sends through, swallows one that comes when it is done."""

    async def chat() -> None:
        while True:
            await redis.ping()

    for steps in range(120):
        task = asyncio.create_task(chat())
        for _ in range(steps % 40):
            await asyncio.sleep(0)
        task.cancel()
        _, swallowed = await asyncio.wait([task], timeout=5)
        task.cancel()
        assert not swallowed, f"after {steps} steps"
