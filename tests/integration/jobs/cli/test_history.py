from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import Manifest, write_manifest
from jobs.config import Config
from jobs.events.event import Event, keep_events
from jobs.events.log import read, record
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Failure, Outcome, Result

Cli = Callable[..., Any]


def result(prompt: str, status: Outcome, message: str = "", saved_at: str = "2026-11-01T10:00:00Z") -> Result:
    return Result(
        id=prompt,
        index=0,
        status=status,
        attempts=2,
        prediction_id="p2",
        prediction_ids=["p1", "p2"],
        model="a/b",
        version=None,
        input={},
        error=Failure(kind="model_error", message=message) if message else None,
        saved_at=saved_at,
    )


def save(folder: Folder, place: str, saved: Result) -> None:
    (folder.path / place).mkdir(parents=True)
    (folder.path / place / "prediction.json").write_text(saved.model_dump_json())


@pytest.fixture
async def folder(config: Config, redis: Redis) -> Folder:
    folder = Folder(config.output_dir, "cats")
    folder.path.mkdir(parents=True)
    write_manifest(folder, Manifest(batch="cats", id="id-1", api_host="api", created_at=1000.0), fsync=False)
    await Batches(redis).open(Batch("cats", "id-1", "api", 1000.0, 3, 0, 1.0))
    return folder


async def test_the_log_of_a_batch_is_from_redis_and_from_its_folder(cli: Cli, folder: Folder, redis: Redis) -> None:
    keep_events(folder, [Event(id="1-0", at="2026-11-01T09:00:00.000Z", event="enqueued", message="3")], fsync=False)
    await record(redis, "cats", Event(event="worker_lost", worker="host:1"))
    answer = cli("logs", "cats")
    assert [line.split("  ")[1:] for line in answer.out.splitlines()] == [
        ["enqueued", "3"],
        ["worker lost", "host:1"],
    ]
    assert [json.loads(line)["event"] for line in cli("logs", "cats", "--json").out.splitlines()] == [
        "enqueued",
        "worker_lost",
    ]
    assert cli("logs", "cats", "--since", "2h").out.count("\n") == 1
    assert "shows all" in cli("logs", "cats", "--since", "2199-01-01").out
    gone = cli("logs", "cats", redis_url="unix:///nowhere")
    assert (gone.code, gone.out.count("\n"), "enqueued" in gone.out) == (0, 1, True)


async def test_a_log_is_followed_to_the_end_of_its_batch(cli: Cli, folder: Folder, redis: Redis) -> None:
    batches = Batches(redis)
    for index in range(3):
        await batches.settle("cats", index, "succeeded")
    await record(redis, folder.batch, Event(event="finished", message="3 succeeded"))
    await batches.finish("cats")
    answer = cli("logs", "cats", "--follow")
    assert (answer.code, answer.out.endswith("finished  3 succeeded\n")) == (0, True)


async def test_the_log_of_a_prompt_has_its_earlier_results_in_order(cli: Cli, folder: Folder, redis: Redis) -> None:
    save(folder, ".retried/one.10", result("one", "failed", "tenth"))
    save(folder, ".retried/one.2", result("one", "failed", "second\x1b[31m"))
    save(folder, ".retried/one.more.1", result("one.more", "failed", "of another"))
    save(folder, "one", result("one", "succeeded"))
    answer = cli("logs", "cats", "one")
    words = [line.partition("  ")[2] for line in answer.out.splitlines() if not line.startswith("  ")]
    assert words == [
        "failed after 2 attempts of a/b: model_error: second\ufffd[31m",
        "failed after 2 attempts of a/b: model_error: tenth",
        "succeeded after 2 attempts of a/b",
    ]
    assert answer.out.count("  prediction p1") == 3
    assert [one["status"] for one in json.loads(cli("logs", "cats", "one", "--json").out)["results"]] == [
        "failed",
        "failed",
        "succeeded",
    ]
    assert await read(redis, "cats") == []


@pytest.mark.usefixtures("folder")
def test_what_is_not_known_is_said_with_the_next_command(cli: Cli) -> None:
    unknown = cli("logs", "cats", "nope")
    assert (unknown.code, "`python -m jobs status cats`" in unknown.err) == (2, True)
    assert "no batch is named 'dogs'" in cli("logs", "dogs").err
    refused = cli("open", "cats", "../../etc")
    assert (refused.code, refused.err) == (2, "Error: '../../etc' is no id of a prompt\n")


@pytest.mark.usefixtures("folder")
def test_open_prints_the_path_where_there_is_no_display(cli: Cli, config: Config) -> None:
    (config.output_dir / "cats" / "prompts.jsonl").touch()
    for options in ((), ("--print",)):
        answer = cli("open", "cats", *options)
        assert (answer.code, answer.out) == (0, f"{config.output_dir.absolute()}/cats/index.html\n")
