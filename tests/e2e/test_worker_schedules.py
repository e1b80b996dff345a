from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs.account.account import Account
from jobs.config import Config
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.schedules.scheduler import Schedules
from jobs.state.batches import Batches

Eventually = Callable[..., Awaitable[Any]]
NIGHTLY = '[[schedule]]\nname = "nightly"\ncron = "0 2 * * *"\nfile = "prompts.jsonl"\nmodel = "simulator/image"\n'
IMAGE = {"width": 16, "height": 16}


@pytest.fixture
def scheduled(config: Config, redis: Redis) -> Callable[[int], Awaitable[None]]:
    """Write a schedule of the given number of prompts whose last time was missed."""

    async def write(count: int) -> None:
        rows = (json.dumps({"prompt": f"cat {number}", **IMAGE}) + "\n" for number in range(count))
        config.schedules.write_text(NIGHTLY, encoding="utf-8")
        config.schedules.with_name("prompts.jsonl").write_text("".join(rows), encoding="utf-8")
        await Schedules(redis, config).fire_due(time.time() - 2 * 86_400)

    return write


async def test_workers_catch_up_what_was_missed_once(
    scheduled: Callable[[int], Awaitable[None]],
    worker_process: Callable[..., Any],
    redis: Redis,
    config: Config,
    simulator: Any,
    eventually: Eventually,
) -> None:
    await scheduled(3)
    workers = [worker_process() for _ in range(2)]
    batches = Batches(redis)

    async def finished() -> str | None:
        names = await batches.names()
        return names[0] if names and (await batches.get(names[0])).finished_at else None

    name = await eventually(finished)
    assert name.startswith("nightly-")
    assert await batches.names() == [name]
    assert simulator.ledger()["created"] == 3
    assert sum(worker.log().count(f"enqueued {name}") for worker in workers) == 1
    assert (config.output_dir / name / "index.html").is_file()
    assert [worker.process.poll() for worker in workers] == [None, None]


async def test_a_worker_killed_while_it_fires_loses_no_prompt(
    scheduled: Callable[[int], Awaitable[None]],
    worker_process: Callable[..., Any],
    redis: Redis,
    config: Config,
    eventually: Eventually,
) -> None:
    await Account(redis, config.api_host).pause("only the queue is looked at")
    await scheduled(20_000)

    async def state() -> dict[str, Any]:
        row = await redis.hget(keys.schedules(config.api_host), "nightly")
        found: dict[str, Any] = json.loads(row or b"{}")
        return found

    async def firing() -> Any:
        return (await state()).get("firing")

    async def done() -> Any:
        return (await state()).get("due")

    first = worker_process()
    due = await eventually(firing)
    first.kill()
    await redis.delete(keys.schedule(config.api_host, "nightly", due))
    worker_process()
    assert await eventually(done) == due
    (name,) = await Batches(redis).names()
    assert (await Batches(redis).get(name)).total == 20_000
    assert await redis.zcard(keys.queue(config.api_host)) == 200
