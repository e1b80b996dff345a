"""What the commands print with `--json` is what docs/schemas says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.reviews import Review, add_review
from jobs.config import Config
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Failure, Result
from tests.json_outputs import is_as_described

COMMANDS = [
    ("check", "enqueue cats.jsonl --model a/b --check"),
    ("receipt", "enqueue cats.jsonl --model a/b --name more"),
    ("batch", "status cats"),
    ("batches", "status"),
    ("result", "results cats"),
    ("costs", "costs"),
    ("event", "logs cats"),
    ("prompt-log", "logs cats one"),
    ("verification", "verify cats"),
    ("dry-run", "retry cats --dry-run"),
    ("limits", "limit cats --max-predictions 9"),
    ("schedules", "schedules"),
    ("schedules-next", "schedules next 2"),
    ("notifications", "notify"),
    ("prices", "prices"),
    ("prompts-canceled", "cancel cats --id two"),
    ("receipt", "retry cats"),
    ("batch", "cancel cats"),
]


@pytest.fixture
def config(config: Config) -> Config:
    """The models of these files are names only."""
    return config.model_copy(update={"model_check": False})


async def test_outputs_are_as_their_schemas_say(
    cli: Callable[..., Any], config: Config, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "cats.jsonl").write_text('{"id": "one", "prompt": "x"}\n{"id": "two", "prompt": "y"}\n')
    table = '[[schedule]]\nname = "nightly"\ncron = "0 2 * * *"\nfile = "cats.jsonl"\nmodel = "a/b"\n'
    config.schedules.write_text(table)
    assert cli("enqueue", "cats.jsonl", "--model", "a/b").code == 0
    failure = Failure(kind="model_error", message="boom")
    result = Result(id="one", index=0, status="failed", model="a/b", input={"prompt": "x"}, cost=0.01, error=failure)
    (config.output_dir / "cats" / "one").mkdir()
    (config.output_dir / "cats" / "one" / "prediction.json").write_text(result.model_dump_json())
    await Batches(redis).settle("cats", 0, "failed")
    add_review(Folder(config.output_dir, "cats"), Review(id="one", rating=4), fsync=False)
    assert '"review":{"rating":4' in cli("results", "cats", "--json").out
    for schema, command in COMMANDS:
        answer = cli(*command.split(), "--json")
        assert is_as_described(schema, answer.out), (command, answer.err)


def test_a_schema_refuses_what_is_not_as_it_says() -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        is_as_described("batch", '{"batch": "cats"}')
    line = '{"id": "a", "index": 0, "status": "failed", "model": "a/b", "input": {}, "review": {"rating": %d}}'
    assert is_as_described("result", line % 5)
    with pytest.raises(jsonschema_rs.ValidationError):
        is_as_described("result", line % 6)
