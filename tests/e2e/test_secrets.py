"""A secret of an input is sent to Replicate and to nobody else: it stands in no file, no log and no key of Redis."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jobs.enqueue.enqueue import Order
from jobs.errors import PromptsError
from jobs.verify.verify import verify

SECRET = "sk-live-0123456789abcdef"
REFERENCE = {"$env": "PROVIDER_KEY"}
FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1}


def stored(night: Any) -> Iterator[str]:
    """All that Redis and the batch's folder hold."""
    with Redis.from_url(night.config.redis_url.get_secret_value()) as client:
        read = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"zset": lambda key: client.zrange(key, 0, -1),
        }
        for key in client.keys("*"):
            if look := read.get(client.type(key)):
                yield f"{key} {look(key)}"
    yield from _files(night, {})


def _files(night: Any, seen: dict[str, Any]) -> Iterator[str]:
    """The files of the batch's folder that are new or have changed since they were seen."""
    for folder, _, names in os.walk(night.folder):
        for name in names:
            with suppress(FileNotFoundError):  # it was moved meanwhile
                place = Path(folder, name)
                found = place.stat()
                state = (found.st_ino, found.st_mtime_ns, found.st_size)
                if seen.get(str(place)) != state:
                    yield f"{place} {place.read_bytes()!r}"
                    seen[str(place)] = state


@pytest.mark.parametrize("redaction", ["mask", "absent"])
def test_a_secret_is_sent_and_stored_nowhere(
    night: Any, worker_process: Callable[..., Any], tmp_path: Path, redaction: str
) -> None:
    """Answers are lost, one model repeats the secret in its error, and one of two workers polls for both."""
    (tmp_path / ".env").write_text(f"PROVIDER_KEY={SECRET}\n")
    night.simulator.settings(redaction=redaction)
    night.simulator.control(lost_answer={"next": 2, "how": "reset"})
    succeeds = [{"model": "simulator/everything", "input": {"prompt": f"cat {n}", "key": REFERENCE}} for n in range(9)]
    fails = {"model": "simulator/flaky", "input": {"prompt": "a", "error": REFERENCE}}
    night.enqueue(*[*succeeds, fails] * 21)
    assert any("PROVIDER_KEY" in text for text in stored(night))
    told, seen = list[str](), dict[str, Any]()
    with night.commands_to_redis() as commands:
        workers = [worker_process("--burst", max_in_flight=50, **FAST) for _ in range(2)]
        while any(worker.process.poll() is None for worker in workers):
            told += _files(night, seen)
            time.sleep(0.02)
    assert [worker.wait() for worker in workers] == [0, 0]
    assert all("→" in worker.log() for worker in workers)
    for texts in (told, commands):
        assert any("PROVIDER_KEY" in text for text in texts)
        assert [text for text in texts if SECRET in text] == []
    assert [create["input"].get("key", SECRET) for create in night.ledger()["creates"]].count(SECRET) >= 210
    results = night.check()
    night.paid_once()
    assert [result["status"] for result in results] == [*["succeeded"] * 9, "failed"] * 21
    assert results[0]["input"] == {"prompt": "cat 0", "key": REFERENCE}
    assert results[9]["error"]["message"] == "$PROVIDER_KEY"
    assert [text for text in (*stored(night), *(worker.log() for worker in workers)) if SECRET in text] == []


def test_a_literal_secret_is_kept_only_where_it_must_be(
    night: Any, worker_process: Callable[..., Any], tmp_path: Path
) -> None:
    """In the copy, and in the payloads until their shards are done; lost creates are found in spite of it."""
    rows = [{"model": "simulator/everything", "input": {"prompt": f"cat {n}", "key": SECRET}} for n in range(12)]
    file = tmp_path / "night.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    night.simulator.control(lost_answer={"next": 2, "how": "reset"})
    with pytest.raises(PromptsError, match="or --allow-literal-secrets"):
        night.ask(lambda desk: desk.enqueue(Order(str(file))))
    for enqueued in (12, 0):
        receipt = night.ask(lambda desk: desk.enqueue(Order(str(file), allow_literal_secrets=True)))
        assert receipt.enqueued == enqueued
    worker = worker_process("--burst", **FAST)
    assert worker.wait() == 0
    assert [create["input"].get("key") for create in night.ledger()["creates"]] == [SECRET] * 12
    results = night.check()
    night.paid_once()
    assert [result["input"]["key"] for result in results] == ["[REDACTED]"] * 12
    held = [text.split(" ", 1)[0] for text in (*stored(night), worker.log()) if SECRET in text]
    assert held == [f"{night.folder}/prompts.jsonl"]


def test_what_a_row_repeats_of_its_secrets(night: Any, worker_process: Callable[..., Any], tmp_path: Path) -> None:
    """A literal one is shown nowhere; the value of a variable only where its owner wrote it, and all agree on that."""
    (tmp_path / ".env").write_text("PROVIDER_KEY=of-the-environment\n")
    keys = {"literal": SECRET, "variable": REFERENCE}
    said = {"literal": SECRET, "variable": "value"}
    rows = [
        {
            "id": name,
            "model": "simulator/everything",
            "input": {"prompt": f"{said[name]} of-the-environment", "key": key},
        }
        for name, key in keys.items()
    ]
    rows += [
        {"id": f"word-{number}", "model": "simulator/everything", "input": {"prompt": "cat", "key": word}}
        for number, word in enumerate(("succeeded", "complete"))
    ]
    file = tmp_path / "night.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    night.ask(lambda desk: desk.enqueue(Order(str(file), allow_literal_secrets=True)))
    assert worker_process("--burst").wait() == 0
    literal, variable, *words = night.check()
    night.paid_once()
    assert [result["status"] for result in (literal, variable, *words)] == ["succeeded"] * 4
    assert literal["input"] == {"prompt": "[REDACTED] of-the-environment", "key": "[REDACTED]"}
    assert variable["input"] == rows[1]["input"]
    assert [text.split(" ", 1)[0] for text in stored(night) if SECRET in text] == [f"{night.folder}/prompts.jsonl"]
    assert "[REDACTED] of-the-environment" in (night.folder / "index.html").read_text()
    found = verify(night.name, night.config)
    assert (found.in_redis, found.disagreements) == (True, ())


def test_a_worker_without_the_variable_pays_nothing(night: Any, worker_process: Callable[..., Any]) -> None:
    night.enqueue({"model": "simulator/everything", "input": {"prompt": "cat", "key": REFERENCE}})
    assert worker_process("--burst").wait() == 0
    (result,) = night.check()
    assert (result["error"]["kind"], night.ledger()["created"]) == ("invalid_input", 0)
    assert "no PROVIDER_KEY, which the input refers to" in result["error"]["message"]
