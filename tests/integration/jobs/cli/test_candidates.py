"""What a shell completes, with and without a Redis that answers."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.cli.shell import candidates
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "BATCH_OUTPUT_DIR", "BATCH_REDIS_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("cats", "cars", "dogs"):
        folder = tmp_path / "outputs" / name
        (folder / "one").mkdir(parents=True)
        (folder / ".saving").mkdir()
        (folder / "batch.json").write_text("{}")
        (folder / "models.json").write_text(json.dumps({"models": {f"owner/{name}": {}}}))
    (tmp_path / "outputs" / "no-batch").mkdir()
    return tmp_path / "outputs"


def of(**params: Any) -> Any:
    return SimpleNamespace(params=params)


def test_without_redis_folders_say_which_batches_there_are_and_no_server_is_started(outputs: Path) -> None:
    assert sorted(candidates.batches(of(), "ca")) == ["cars", "cats"]
    assert sorted(path.name for path in outputs.parent.iterdir()) == ["outputs"]


async def test_what_redis_knows_comes_first(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await Batches(redis).open(Batch("cable", "id-1", "api", 1000.0, 3, 0, 1.0))
    monkeypatch.setenv("REDIS_URL", redis_url)
    found = await asyncio.to_thread(candidates.batches, of(), "ca")
    assert found[0] == "cable"
    assert sorted(found) == ["cable", "cars", "cats"]


def test_a_redis_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}")
        assert sorted(candidates.batches(of(), "")) == ["cars", "cats", "dogs"]


def test_prompts_are_those_of_the_batch_and_models_those_used_before() -> None:
    assert candidates.prompts(of(batch="cats"), "") == ["one"]
    assert candidates.prompts(of(batch="nope"), "") == []
    assert candidates.prompts(of(), "") == []
    assert sorted(candidates.models(of(), "owner/c")) == ["owner/cars", "owner/cats"]


def test_wrong_settings_complete_nothing_and_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCH_MAX_IN_FLIGHT", "many")
    assert candidates.batches(of(), "") == candidates.schedules(of(), "") == []
    assert capfd.readouterr() == ("", "")
