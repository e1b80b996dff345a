from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, enqueue
from jobs.operations.operations import Operations
from jobs.prices.setting import Prices
from jobs.redis_client.resilience import Redis
from tests.integration.jobs.enqueue.night import Rows, write


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Config:
    """A producer's without a token, which needs no simulator; a prediction of a/b costs a cent."""
    prices = Prices.parse("a/b=0.01")
    return Config.load(
        output_dir=tmp_path / "outputs",
        redis_url=redis_url,
        model="a/b",
        model_check=False,
        prices=prices,
        max_attempts=2,
    )


@pytest.fixture
def operations(config: Config, redis: Redis) -> Operations:
    return Operations(config, redis)


@pytest.fixture
def enqueued(tmp_path: Path, config: Config, redis: Redis) -> Callable[..., Awaitable[Receipt]]:
    """`await enqueued(3, priority=2)`: enqueue rows, or so many prompts, as the file night.jsonl."""

    async def run(rows: Rows, name: str = "night", **order: Any) -> Receipt:
        return await enqueue(Order(write(tmp_path / f"{name}.jsonl", rows), **order), config, redis)

    return run
