"""Record what a killed worker of v0.1.0 leaves: `PYTHONPATH=A_CHECKOUT_OF_THAT_TAG python tests/data/record.py`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from jobs import embedded_redis  # type: ignore[attr-defined]  # it is the checkout's
from simulator.process import RunningSimulator, running

DATA = Path(__file__).parent / "v0.1.0"
SIZE = {"width": 16, "height": 16, "output_format": "png"}
SETTINGS = {
    "REPLICATE_API_TOKEN": "r8_a_token_for_tests",
    "BATCH_OUTPUT_HOSTS": "localhost",
    "BATCH_MAX_IN_FLIGHT": "3",
    "BATCH_CREATES_PER_MINUTE": "60000",
    "BATCH_POLL_INTERVAL": "0.1",
    "BATCH_LEASE": "1",
    "BATCH_MAX_ATTEMPTS": "1",
}


def image(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "model": "simulator/image", "input": {"prompt": name, **SIZE, **more}}


ENDED = [image("failed"), image("succeeded")]
NIGHT = [
    image("refused", num_outputs=9),
    image("open-1", predict_time=8),
    image("open-2", predict_time=8),
    image("settled", predict_time=2),
    image("unanswered", predict_time=8),
    image("untouched-1"),
    image("untouched-2"),
]


@contextmanager
def server(home: Path) -> Iterator[Any]:
    options = ["--port", "0", "--unixsocket", str(home / "s"), "--dir", str(home), "--save", ""]
    process = subprocess.Popen([embedded_redis.binary(), *options], stdout=subprocess.DEVNULL)
    try:
        while not (home / "s").exists():
            time.sleep(0.05)
        yield Redis(unix_socket_path=str(home / "s"))
    finally:
        process.kill()


def value_of(redis: Any, key: bytes) -> Any:
    match redis.type(key):
        case b"string":
            return redis.get(key)
        case b"hash":
            return redis.hgetall(key)
        case b"zset":
            return dict(redis.zrange(key, 0, -1, withscores=True))
        case other:
            raise ValueError(f"{key!r} is a {other!r}: teach the test to restore it")


def as_text(value: Any) -> Any:
    """Bytes as Latin-1, which JSON can hold and which is exact."""
    if isinstance(value, dict):
        return {as_text(name): as_text(each) for name, each in value.items()}
    return value.decode("latin-1") if isinstance(value, bytes) else value


def until_midway(simulator: RunningSimulator, folder: Path) -> None:
    while simulator.ledger()["created"] < 5:
        time.sleep(0.02)
    simulator.control(lost_answer={"rate": 1.0, "how": "502"}, list_lag={"rate": 1.0, "seconds": 3600})
    while simulator.ledger()["created"] < 6 or not (folder / "settled/prediction.json").exists():
        time.sleep(0.02)
    time.sleep(1)


def main() -> None:
    home = Path(tempfile.mkdtemp())
    with running(limiter="off") as simulator, server(home) as redis:
        simulator.settings(predict_min=0.05, predict_max=0.1, queue_max=0.0)
        redis_url = f"unix://{home}/s"
        env = {**os.environ, **SETTINGS, "REPLICATE_BASE_URL": simulator.url, "REDIS_URL": redis_url}
        for name, rows in {"ended": ENDED, "night": NIGHT}.items():
            (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        worker = [sys.executable, "-m", "arq", "worker.Settings"]
        jobs = [sys.executable, "-m", "jobs", "enqueue", "--max-predictions", "50"]
        simulator.control(failed={"next": 1})
        subprocess.run([*jobs, "ended.jsonl"], cwd=home, env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*worker, "--burst"], cwd=home, env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*jobs, "night.jsonl"], cwd=home, env=env, check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen(worker, cwd=home, env=env)
        until_midway(simulator, home / "outputs/night")
        process.send_signal(signal.SIGKILL)
        process.wait()
        keys = {
            key: {"type": redis.type(key), "ttl": redis.pttl(key), "value": value_of(redis, key)}
            for key in sorted(redis.keys())
        }
        recording = {
            "api_host": urlsplit(simulator.url).netloc,
            "recorded_at": time.time(),
            "creates": simulator.ledger()["creates"],
            "keys": as_text(keys),
        }
        (DATA / "redis.json").write_text(json.dumps(recording, indent=1) + "\n")
        shutil.rmtree(DATA / "batches", ignore_errors=True)
        shutil.copytree(home / "outputs", DATA / "batches", ignore=shutil.ignore_patterns(".lock"))
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
