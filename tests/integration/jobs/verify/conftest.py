from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.enqueue.enqueue import Order, enqueue
from jobs.redis_client.client import opened
from jobs.verify.disagreements import Verification
from jobs.verify.verify import verify

IMAGE = {"width": 16, "height": 16, "output_format": "png"}
ROWS: list[dict[str, Any]] = [
    {"id": "one", "model": "simulator/image", "input": {"prompt": "a cat", **IMAGE}},
    {"id": "two", "model": "simulator/image", "input": {"prompt": "cats", "num_outputs": 2, **IMAGE}},
    {"id": "text", "model": "simulator/text", "input": {"text": "What a line\r\n"}},
    {"id": "tokens", "model": "simulator/tokens", "input": {"prompt": "say it", "count": 3}},
    {"id": "json", "model": "simulator/json", "input": {"prompt": "x"}},
    {"id": "nested", "model": "simulator/nested", "input": {"prompt": "x", "shape": "dicts"}},
    {"id": "mixed", "model": "simulator/echo", "input": {"output": {"file": {"$output": "a.bin", "size": 9}, "n": 1}}},
    {"id": "fails", "model": "simulator/flaky", "input": {"error": "boom"}},
    {"id": "null", "model": "simulator/echo", "input": {"output": None}},
    {"id": "empty", "model": "simulator/echo", "input": {"output": []}},
]


@dataclass(frozen=True)
class Kept:
    """A finished batch: its folder, and its keys in Redis as DUMP gives them."""

    folder: Path
    redis: dict[bytes, Any]


_kept: list[Kept] = []


@dataclass(frozen=True)
class Night:
    """A batch whose folder and Redis a test may break."""

    config: Config
    folder: Folder
    redis: Redis

    def verify(self, *, read: bool = True) -> Verification:
        """The second look follows at once."""
        return verify(self.folder.batch, self.config, read=read, recheck=0.0)

    def key(self, kind: str) -> str:
        return f"replicate-batch:{kind}:{self.folder.batch}"


@pytest.fixture
def redis_client(config: Config) -> Iterator[Redis]:
    assert config.redis_url
    with Redis.from_url(config.redis_url.get_secret_value()) as client:
        yield client


async def enqueued(file: Path, config: Config) -> None:
    async with opened(config) as redis:
        await enqueue(Order(str(file)), config, redis)


@pytest.fixture
def unfinished(config: Config, redis_client: Redis, tmp_path: Path) -> Night:
    """Enqueued, and no worker has come yet."""
    file = tmp_path / "night.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with ThreadPoolExecutor(1) as thread:  # tests in a loop of their own use it, too
        thread.submit(asyncio.run, enqueued(file, config)).result()
    return Night(config, Folder(config.output_dir, "night"), redis_client)


@pytest.fixture
def kept(
    cli: Callable[..., Any],
    redis_client: Redis,
    tmp_path_factory: pytest.TempPathFactory,
    simulator: Any,
) -> Kept:
    """A batch that a real worker has done, the first time that a test asks for it."""
    if not _kept:
        home = tmp_path_factory.mktemp("kept")
        file = home / "night.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        simulator.settings(limiter="off", predict_min=0.01, predict_max=0.02, queue_max=0.0)
        answer = cli("run", str(file), output_dir=home)
        assert answer.code == 1, answer.err
        keys: Any = redis_client.keys("replicate-batch:*:night")
        _kept.append(Kept(home / "night", {key: redis_client.dump(key) for key in keys}))
    return _kept[0]


@pytest.fixture
def finished(config: Config, redis_client: Redis, kept: Kept) -> Night:
    """A finished batch to break."""
    folder = Folder(config.output_dir, "night")
    shutil.copytree(kept.folder, folder.path)
    redis_client.flushall()
    for key, value in kept.redis.items():
        redis_client.restore(key, 0, value)
    return Night(config, folder, redis_client)
