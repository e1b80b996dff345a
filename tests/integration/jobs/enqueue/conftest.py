from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, enqueue
from jobs.redis_client.resilience import Redis
from jobs.wire import Result
from tests.integration.jobs.enqueue.night import Rows, write


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Config:
    """A producer's without a token, which needs no simulator: its models are names only."""
    return Config.load(output_dir=tmp_path / "outputs", redis_url=redis_url, model="owner/name", model_check=False)


@pytest.fixture
def enqueued(tmp_path: Path, config: Config, redis: Redis) -> Callable[..., Awaitable[Receipt]]:
    """`await enqueued(3, limit=1)`: enqueue rows, or so many prompts, as the file night.jsonl."""

    async def run(rows: Rows, **order: Any) -> Receipt:
        return await enqueue(Order(write(tmp_path / "night.jsonl", rows), **order), config, redis)

    return run


@pytest.fixture
def record(folder: Folder) -> Callable[..., None]:
    """`record("p3", 3, cost=0.003)`: write a result as a worker does, without counting it."""

    def write(place: str, index: int, **facts: Any) -> None:
        basis = {"id": f"p{index}", "index": index, "status": "succeeded", "model": "owner/name", "input": {}}
        path = folder.prompt(place)
        path.mkdir(parents=True)
        (path / "prediction.json").write_text(Result.model_validate({**basis, **facts}).model_dump_json())

    return write
