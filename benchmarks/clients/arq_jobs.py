"""arq's own way to enqueue: a job for each prompt, one after the other or gathered."""

from __future__ import annotations

import asyncio
import sys

from arq.connections import RedisSettings, create_pool

_AT_ONCE = 100


async def main(count: int, way: str, url: str) -> None:
    """Enqueue the given number of jobs."""
    queue = await create_pool(RedisSettings.from_dsn(url))
    prompts = [{"prompt": f"A lighthouse at dawn, study {number}"} for number in range(count)]
    if way == "loop":
        for prompt in prompts:
            await queue.enqueue_job("predict", prompt)
    else:
        for start in range(0, count, _AT_ONCE):
            await asyncio.gather(
                *(queue.enqueue_job("predict", prompt) for prompt in prompts[start : start + _AT_ONCE])
            )
    await queue.aclose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4]))
