"""A secret of an input is sent to Replicate and to nobody else: it stands in no file, no log and no key of Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

SECRET = "sk-live-0123456789abcdef"
REFERENCE = {"$env": "PROVIDER_KEY"}


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
            yield f"{key} {read[client.type(key)](key)}"
    for path in night.folder.rglob("*"):
        yield f"{path} {path.read_bytes() if path.is_file() else ''}"


@pytest.mark.parametrize("redaction", ["mask", "absent"])
def test_a_secret_is_sent_and_stored_nowhere(
    night: Any, worker_process: Callable[..., Any], tmp_path: Path, redaction: str
) -> None:
    """Answers are lost, and one model repeats the secret in its error."""
    (tmp_path / ".env").write_text(f"PROVIDER_KEY={SECRET}\n")
    night.simulator.settings(redaction=redaction)
    night.simulator.control(lost_answer={"next": 2, "how": "reset"})
    rows = [{"model": "simulator/everything", "input": {"prompt": f"cat {n}", "key": REFERENCE}} for n in range(4)]
    night.enqueue(*rows, {"model": "simulator/flaky", "input": {"prompt": "a", "error": REFERENCE}})
    assert any("PROVIDER_KEY" in text for text in stored(night))
    worker = worker_process("--burst")
    assert worker.wait() == 0
    assert [create["input"].get("key", SECRET) for create in night.ledger()["creates"]].count(SECRET) >= 5
    results = night.check()
    night.paid_once()
    assert [result["status"] for result in results] == ["succeeded"] * 4 + ["failed"]
    assert results[0]["input"] == {"prompt": "cat 0", "key": REFERENCE}
    assert results[4]["error"]["message"] == "$PROVIDER_KEY"
    assert [text for text in (*stored(night), worker.log()) if SECRET in text] == []


def test_a_worker_without_the_variable_pays_nothing(night: Any, worker_process: Callable[..., Any]) -> None:
    night.enqueue({"model": "simulator/everything", "input": {"prompt": "cat", "key": REFERENCE}})
    assert worker_process("--burst").wait() == 0
    (result,) = night.check()
    assert (result["error"]["kind"], night.ledger()["created"]) == ("invalid_input", 0)
    assert "no PROVIDER_KEY, which the input refers to" in result["error"]["message"]
