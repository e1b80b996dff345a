"""What v0.1.0 left in Redis and on disk (`tests/data/record.py`) is finished by today's worker."""

from __future__ import annotations

import json
import re
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis

RECORDING = Path(__file__).parents[1] / "data/v0.1.0"
FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}
TIME = re.compile(r"\b\d{10}(?:\d{3}|\d{6})?(?=\D|$)")
SETTERS: dict[str, Callable[[Redis, str, Any], Any]] = {
    "string": lambda redis, key, value: redis.set(key, value),
    "hash": lambda redis, key, value: redis.hset(key, mapping=value),
    "zset": lambda redis, key, value: redis.zadd(key, value),
}


class Restored:
    """The recording with this test's host, ids and times in place of the recorded ones."""

    def __init__(self, simulator: Any) -> None:
        self.recording = json.loads((RECORDING / "redis.json").read_text())
        self.texts = {self.recording["api_host"]: urlsplit(simulator.url).netloc}
        self.shift = int(time.time() - self.recording["recorded_at"])
        for create in self.recording["creates"]:
            self.texts[create["id"]] = self.create_again(simulator, create)

    @staticmethod
    def create_again(simulator: Any, create: dict[str, Any]) -> str:
        answer = httpx.post(
            f"{simulator.url}/v1/models/{create['model']}/predictions",
            json={"input": create["input"]},
            headers={"authorization": "Bearer x"},
            trust_env=False,
        )
        id_: str = answer.raise_for_status().json()["id"]
        return id_

    def moved(self, text: str) -> str:
        for old, new in self.texts.items():
            text = text.replace(old, new)
        return TIME.sub(lambda found: self.later(found[0]), text)

    def later(self, digits: str) -> str:
        """Seconds, milliseconds or microseconds, if they are of the recording's hour."""
        unit = 10 ** (len(digits) - 10)
        is_of_then = abs(int(digits) / unit - self.recording["recorded_at"]) < 3600
        return str(int(digits) + self.shift * unit) if is_of_then else digits

    def moved_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.moved(name): self.moved_value(each) for name, each in value.items()}
        if isinstance(value, float):
            return float(self.moved(repr(value)))
        data: bytes = value.encode("latin-1")
        if data.startswith(b"x\x01"):
            return zlib.compress(self.moved(zlib.decompress(data).decode()).encode(), 1)
        return self.moved(value).encode("latin-1")

    def into_redis(self, redis: Redis) -> None:
        for recorded, key in self.recording["keys"].items():
            name = self.moved(recorded)
            SETTERS[key["type"]](redis, name, self.moved_value(key["value"]))
            if key["ttl"] >= 0:
                redis.pexpire(name, key["ttl"])

    def into_folder(self, outputs: Path) -> None:
        shutil.copytree(RECORDING / "batches", outputs)
        for file in outputs.rglob("*.json*"):
            file.write_text(self.moved(file.read_text()))


@pytest.fixture
def restored(night: Any) -> Restored:
    restored = Restored(night.simulator)
    restored.into_folder(night.config.output_dir)
    with Redis.from_url(night.config.redis_url.get_secret_value()) as redis:
        restored.into_redis(redis)
    return restored


def test_a_batch_that_was_killed_midway_is_finished_and_paid_once(
    night: Any, restored: Restored, worker_process: Callable[..., Any]
) -> None:
    before = len(restored.recording["creates"])
    assert night.status()["state"] != "finished"
    assert worker_process("--burst", **FAST).wait(90) == 0
    results = {result["id"]: result for result in night.check()}
    assert {id_: result["status"] for id_, result in results.items()} == {
        "refused": "failed",
        "open-1": "succeeded",
        "open-2": "succeeded",
        "settled": "succeeded",
        "unanswered": "succeeded",
        "untouched-1": "succeeded",
        "untouched-2": "succeeded",
    }
    for create in restored.recording["creates"][2:]:
        assert results[create["input"]["prompt"]]["prediction_ids"] == [restored.texts[create["id"]]]
    assert len(night.ledger()["creates"]) == before + 2
    assert (night.status()["state"], night.status()["predictions"]) == ("finished", 6)


def test_a_finished_batch_is_retried(night: Any, restored: Restored, worker_process: Callable[..., Any]) -> None:
    ended = type(night)(night.cli, night.config, night.simulator, "ended")
    assert ended.status()["state"] == "finished"
    before = {result["id"]: result for result in ended.results()}
    assert ended.retry()["enqueued"] == 1
    assert worker_process("--burst", **FAST).wait(90) == 0
    after = {result["id"]: result for result in ended.check()}
    assert {id_: result["status"] for id_, result in after.items()} == {"failed": "succeeded", "succeeded": "succeeded"}
    assert after["succeeded"] == before["succeeded"]
    assert len(night.ledger()["creates"]) == len(restored.recording["creates"]) + 3, "2 of night, 1 of the retry"
