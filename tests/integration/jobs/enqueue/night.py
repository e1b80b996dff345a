"""The file night.jsonl, its batch in the queue and in the folder, and a crash on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.batch_folder.folder import Folder
from jobs.queue.payload import unpack
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Outcome, Result, Shard

API_HOST = "api.replicate.com"
Rows = int | range | list[Any]


def write(path: Path, rows: Rows) -> str:
    """Write rows, or so many prompts p0, p1, …"""
    numbers = range(rows) if isinstance(rows, int) else rows
    found = numbers if isinstance(numbers, list) else [{"id": f"p{n}", "prompt": f"fox {n}"} for n in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


async def queued(redis: Redis, api_host: str = API_HOST) -> dict[str, Shard]:
    """What waits, by job id, in the queue's order."""
    jobs = [job.decode() for job in await redis.zrange(keys.queue(api_host), 0, -1)]
    return {job: unpack(await redis.get(keys.ARQ_JOB + job), job) for job in jobs}


async def settle(redis: Redis, folder: Folder, outcomes: dict[int, Outcome]) -> None:
    """As a worker does: the record first, then the count."""
    for index, outcome in outcomes.items():
        record = folder.prompt(f"p{index}")
        record.mkdir()
        result = Result(id=f"p{index}", index=index, status=outcome, model="owner/name", input={})
        (record / "prediction.json").write_text(result.model_dump_json())
        await Batches(redis).settle("night", index, outcome)


def crashing(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """The function, which works so many times and then raises."""
    left = calls

    def crash(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("crash")
        return function(*args, **kwargs)

    return crash
