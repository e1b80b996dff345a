"""Foreign text stays text, foreign payloads stay data, and the token goes only to the API; on real processes."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from jobs.config import Config
from jobs.redis_client import keys
from tests.fork_server import start_python

TOKEN = "r8_a_token_for_tests"
HOSTILE = "<script>alert(1)</script>\x1b[2J\x1b]0;mine\x07\u2028\u202e\"'><img src=x onerror=alert(2)>"
ESCAPES = ("\x1b", "\x07", "\u202e")
ROWS = [
    {"id": "echo", "model": "simulator/echo", "input": {"output": HOSTILE}},
    {"id": "svg", "model": "simulator/echo", "input": {"output": {"$output": "x.svg"}, "prompt": HOSTILE}},
    {"id": "link", "model": "simulator/echo", "input": {"output": ["javascript:alert(3)"], HOSTILE: HOSTILE}},
    {"id": "failed", "model": "simulator/flaky", "input": {"prompt": HOSTILE, "error": HOSTILE}},
]


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


@contextmanager
def command_lines() -> Iterator[list[str]]:
    """Collect the command line of every process."""
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.extend(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def put_bomb(config: Config, place: Path) -> None:
    assert config.redis_url
    with Redis.from_url(config.redis_url.get_secret_value()) as redis:
        redis.set(f"{keys.ARQ_JOB}other:0:0", pickle.dumps(Bomb(place)))
        redis.zadd(keys.queue(config.api_host), {"other:0:0": 1})


@pytest.fixture
def ran(night: Any, tmp_path: Path) -> tuple[Any, list[str]]:
    """A whole run of hostile rows beside a bomb in the queue: what it printed, and what was seen meanwhile."""
    put_bomb(night.config, tmp_path / "exploded")
    (tmp_path / "night.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with night.commands_to_redis() as commands, command_lines() as seen:
        answer = night.cli("run", "night.jsonl", "--allow-unknown")
    assert answer.code == 1, answer.err
    return answer, seen + commands


@pytest.mark.parametrize("launch", [start_python], ids=["python"])  # a forked child has no command line of its own
def test_a_run_of_hostile_rows(ran: tuple[Any, list[str]], night: Any, tmp_path: Path) -> None:
    answer, seen = ran
    assert not (tmp_path / "exploded").exists(), "nothing is unpickled"
    printed = answer.out + answer.err + "".join(night.cli("results", "night", "--failed")[1:])
    printed += "".join(night.cli("status", "night")[1:])
    # no escape code reaches a terminal
    assert "alert(1)" in printed
    assert not [escape for escape in ESCAPES if escape in printed]
    # the token is in no process list, command of Redis, log or file, and no file host has seen it
    assert any("worker --burst --only night" in line for line in seen)
    assert any("EVALSHA" in line for line in seen)
    assert not [line for line in seen if TOKEN in line]
    assert TOKEN not in printed
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert night.ledger()["file_tokens"] == {}
    # one line a result, whatever is in it
    results = {result["id"]: result for result in night.results()}
    assert list(results) == [row["id"] for row in ROWS]
    assert [result["status"] for result in results.values()] == ["succeeded"] * 3 + ["failed"]
    assert results["echo"]["output"] == HOSTILE
    # a page runs nothing, and leads to nothing that runs
    page = (night.folder / "index.html").read_text()
    assert "alert(1)" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert 'href="javascript:' not in page
    assert re.findall(r'([a-z]+)="svg/', page) == ["src"], "as an image it runs no script"
    # nothing lies outside the folder of its prompt
    files = {path.relative_to(night.folder).parts[0] for path in night.folder.rglob("*") if path.is_file()}
    own = {"batch.json", "models.json", "prompts.jsonl", "results.jsonl", "errors.jsonl", "index.html"}
    assert {name for name in files if not name.startswith(".")} == own | {row["id"] for row in ROWS}
    assert {path.name for path in night.config.output_dir.iterdir()} == {"night"}


def test_a_wrong_setting_is_told_without_the_token(cli: Callable[..., Any]) -> None:
    answer = cli("status", max_in_flight=f"{TOKEN}x", redis_url=f"redis://:{TOKEN}@127.0.0.1:1/0")
    assert answer.code == 2
    assert TOKEN not in answer.out + answer.err.replace(f"{TOKEN}x", "")


# A process that is forked from a large one counts that one's memory as its own: the command is started by a small one.
MEASURED = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run([sys.executable, '-m', 'jobs', *sys.argv[1:]]).returncode\n"
    "print('code', code, 'memory', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
)


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (b"0" * 1_000_000, "longer than"),
        (b'{"prompt": "' + b"[" * 999_000, "longer than"),
        (b"[" * 1_000_000, "JSON of more than 30,000,000 bytes"),
    ],
)
def test_a_bomb_in_a_prompts_file_takes_little_memory(
    content: bytes, refusal: str, child_env: dict[str, str], tmp_path: Path
) -> None:
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as bomb:
        for _ in range(250):
            bomb.write(content)
    command = [
        sys.executable,
        "-c",
        MEASURED,
        "enqueue",
        "bomb.jsonl.gz",
        "--check",
        "--model",
        "a/b",
        "--no-model-check",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=child_env, capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    found = re.fullmatch(r"code (\d+) memory (\d+)\n", done.stdout)
    assert found
    assert int(found[1]) == 2
    assert refusal in done.stderr
    assert int(found[2]) * (1 if sys.platform == "darwin" else 1024) < 150_000_000
