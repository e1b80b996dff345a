from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis import Redis

from jobs.budget import UNCHANGED
from jobs.config import Config
from jobs.enqueue.enqueue import Order
from jobs.operations.operations import Operations
from jobs.redis_client.client import opened

IMAGE = {"width": 16, "height": 16, "output_format": "png"}
T = TypeVar("T")
QUICK = {"limiter": "off", "predict_min": 0.05, "predict_max": 0.2, "queue_max": 0.0}


@dataclass(frozen=True)
class Night:
    """One batch from its prompts file to its folder, and the simulator's ledger of it."""

    cli: Callable[..., Any]
    config: Config
    simulator: Any
    name: str = "night"

    @property
    def folder(self) -> Path:
        return self.config.output_dir / self.name

    def ask(self, question: Callable[[Operations], Awaitable[T]], **settings: Any) -> T:
        """What a command answers, without a process for it."""

        async def answer() -> T:
            config = self.config.model_copy(update=settings)
            async with opened(config) as redis:
                return await question(Operations(config, redis))

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, answer()).result()

    def enqueue(self, *rows: dict[str, Any], **settings: Any) -> dict[str, Any]:
        file = self.config.output_dir.parent / f"{self.name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.ask(lambda desk: desk.enqueue(Order(str(file))), **settings).model_dump(mode="json")

    def images(self, count: int, **settings: Any) -> dict[str, Any]:
        rows = [{"model": "simulator/image", "input": {"prompt": f"cat {n}", **IMAGE}} for n in range(count)]
        return self.enqueue(*rows, **settings)

    def retry(self) -> dict[str, Any]:
        return self.ask(lambda desk: desk.retry(self.name, UNCHANGED)).model_dump(mode="json")

    def status(self) -> dict[str, Any]:
        return self.ask(lambda desk: desk.status(self.name)).model_dump(mode="json")

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "results.jsonl").read_text().splitlines()]

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.simulator.ledger()
        return found

    def check(self) -> list[dict[str, Any]]:
        """Every prompt has one result in file order, every file is whole, and no token left home."""
        results = self.results()
        prompts = [json.loads(line)["id"] for line in (self.folder / "prompts.jsonl").read_text().splitlines()]
        assert [result["id"] for result in results] == prompts
        for result in results:
            assert (self.folder / result["id"] / "prediction.json").is_file()
            for file in result["files"]:
                data = (self.folder / file["path"]).read_bytes()
                assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert self.ledger()["file_tokens"] == {}
        assert not (self.folder / ".saving").exists()
        return results

    @contextmanager
    def commands_to_redis(self) -> Iterator[list[str]]:
        """Collect every command that Redis gets, those of scripts too, as MONITOR prints them."""
        assert self.config.redis_url
        seen: list[str] = []
        over = threading.Event()

        def listen(monitor: Any) -> None:
            while not over.is_set():
                seen.append(monitor.connection.read_response().decode())

        with Redis.from_url(self.config.redis_url.get_secret_value()) as redis, redis.monitor() as monitor:
            thread = threading.Thread(target=listen, args=(monitor,))
            thread.start()
            try:
                yield seen
            finally:
                over.set()
                redis.ping()
                thread.join()

    def redis_has_no(self, pattern: str) -> bool:
        assert self.config.redis_url
        with Redis.from_url(self.config.redis_url.get_secret_value()) as client:
            return not client.keys(pattern)

    def paid_once(self) -> None:
        """Every prediction that was created is one that a result names as its own."""
        named = [id_ for result in self.results() for id_ in result["prediction_ids"]]
        assert sorted(named) == sorted(create["id"] for create in self.ledger()["creates"])


@pytest.fixture
def night(cli: Callable[..., Any], config: Config, simulator: Any) -> Night:
    simulator.settings(**QUICK)
    return Night(cli, config.model_copy(update={"creates_per_minute": 60_000.0}), simulator)
