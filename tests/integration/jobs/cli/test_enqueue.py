"""The commands that put work in, and those around the server, as real processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.account.live_workers import send_heartbeat
from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.prices.setting import Prices
from jobs.redis_client.embedded import stop
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Failure, Outcome, Result

Cli = Callable[..., Any]
START = "python -m arq worker.Settings"
RECEIPT_KEYS = [
    "batch",
    "total",
    "enqueued",
    "already_done",
    "shards",
    "workers",
    "dead_letters",
    "cost_at_least",
    "cost_at_most",
    "cost_is_partial",
    "unpriced",
    "unpriced_models",
    "warnings",
    "begun_from",
    "pinned",
]


@pytest.fixture
def config(config: Config) -> Config:
    """The models of these files are names only."""
    return config.model_copy(update={"model_check": False})


@pytest.fixture
def source(tmp_path: Path) -> str:
    rows = [{"prompt": f"cat {number}"} for number in range(150)]
    (tmp_path / "cats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return "cats.jsonl"


def kept(config: Config, batch: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Folder(config.output_dir, batch).prompts.read_text().splitlines()]


def test_enqueue_for_people(cli: Cli, source: str) -> None:
    answer = cli("enqueue", source, "--model", "a/b")
    assert (answer.code, answer.err) == (0, "")
    receipt, hint = answer.out.splitlines()
    assert receipt == "cats: 150 prompts enqueued in 2 shards"
    assert START in hint
    again = cli("enqueue", source, "--model", "a/b")
    assert again.out.splitlines()[0] == "cats: nothing new to enqueue; 0 of 150 done"


async def test_enqueue_for_scripts(cli: Cli, source: str, config: Config, redis: Redis) -> None:
    await send_heartbeat(redis, config.api_host, "w", 60)
    answer = cli("enqueue", source, "--json", "--limit", "2", "--name", "pilot", "--priority", "2.5", model="a/b")
    assert answer.code == 0, answer.err
    facts = json.loads(answer.out)
    assert list(facts) == RECEIPT_KEYS
    assert facts == {
        "batch": "pilot", "total": 2, "enqueued": 2, "already_done": 0, "shards": 1, "workers": 1,
        "dead_letters": [], "cost_at_least": None, "cost_at_most": None, "cost_is_partial": False, "unpriced": [],
        "unpriced_models": [], "warnings": [], "begun_from": str((config.output_dir.parent / source).resolve()),
        "pinned": {},
    }  # fmt: skip
    assert (await Batches(redis).get("pilot")).priority == 2.5
    assert [row["model"] for row in kept(config, "pilot")] == ["a/b", "a/b"], "BATCH_MODEL is the default"


def test_standard_input_and_inputs(cli: Cli, config: Config) -> None:
    arguments = ["--name", "piped", "--model", "a/b", "--input", "steps=4", "--input", "style=16:9"]
    answer = cli("enqueue", "-", *arguments, stdin='{"prompt": "a"}\n{"prompt": "b", "steps": 1}\n')
    assert answer.code == 0, answer.err
    assert [row["input"] for row in kept(config, "piped")] == [
        {"prompt": "a", "steps": 4, "style": "16:9"},
        {"prompt": "b", "steps": 1, "style": "16:9"},
    ]


def test_check_only_validates(cli: Cli, source: str, config: Config, tmp_path: Path) -> None:
    nowhere = {"redis_url": f"unix://{tmp_path}/nothing"}
    answer = cli("enqueue", source, "--model", "a/b", "--check", **nowhere)
    then = "The same command without --check enqueues them"
    assert (answer.code, answer.out) == (0, f"cats.jsonl: 150 prompts, no error\n{then}\n")
    answer = cli("enqueue", source, "--model", "a/b", "--check", "--json", **nowhere)
    assert json.loads(answer.out) == {
        "total": 150,
        "rows": None,
        "files": 0,
        "file_bytes": 0,
        "cost_at_least": None,
        "cost_at_most": None,
        "cost_is_partial": False,
        "unpriced": [],
        "unpriced_models": [],
        "warnings": [],
        "pinned": {},
    }
    assert not config.output_dir.exists()


def test_one_row_becomes_many_and_more_values_add_only_what_is_new(cli: Cli, tmp_path: Path, config: Config) -> None:
    (tmp_path / "cats.csv").write_text("id,prompt\nred,a red cat\nblue,a blue cat\n")
    seeds = ["--model", "a/b", "--each", "seed=1..2"]
    checked = cli("enqueue", "cats.csv", "--check", *seeds, "--each", "steps=4,8")
    assert checked.out.splitlines()[0] == "cats.csv: 8 prompts made of 2 rows, no error"
    drawn = cli("enqueue", "cats.csv", "--check", *seeds, "--template", "{prompt}, {2$$ and $$ink|oil|chalk}")
    assert drawn.out.splitlines()[0] == "cats.csv: 24 prompts made of 2 rows, no error"
    assert cli("enqueue", "cats.csv", *seeds).out.startswith("cats: 4 prompts enqueued in 1 shard")
    assert cli("enqueue", "cats.csv", "--model", "a/b", "--repeat", "3", "--seed-from", "1").out.startswith(
        "cats: 2 prompts enqueued in 1 shard; 6 in all"
    )
    rows = kept(config, "cats")
    made = (("red", 1), ("red", 2), ("blue", 1), ("blue", 2), ("red", 3), ("blue", 3))
    assert [row["id"] for row in rows] == [f"{name}--seed-{seed}" for name, seed in made]
    assert rows[-1]["input"] == {"prompt": "a blue cat", "seed": 3}


def test_a_misspelt_column_is_told_by_check_enqueue_and_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "cats.csv").write_text("Prompt,seed\na cat,1\n")
    warning = "the input 'Prompt' is not 'prompt'"
    for command in (["enqueue", "cats.csv", "--check"], ["enqueue", "cats.csv"]):
        answer = cli(*command, "--model", "a/b")
        assert answer.code == 0, answer.err
        assert f"Warning: line 2: {warning}" in answer.out
        assert warning in json.loads(cli(*command, "--model", "a/b", "--json").out)["warnings"][0]
    answer = cli("run", "cats.csv", "--model", "replicate-batch/no-such-model")
    assert answer.code == 2, "the id has another model"
    assert warning in cli("run", "cats.csv", "--name", "again", "--model", "replicate/hello-world").out


def test_two_files_of_one_name_are_two_batches(cli: Cli, tmp_path: Path, config: Config) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cats.jsonl").write_text(json.dumps({"id": folder, "prompt": "a cat"}))
    first = cli("enqueue", "a/cats.jsonl", "--model", "a/b")
    assert first.code == 0, first.err
    assert "first enqueued from" not in first.out
    for command in ("enqueue", "run"):
        refused = cli(command, "b/cats.jsonl", "--model", "a/b")
        assert (refused.code, refused.out) == (2, "")
        assert "b/cats.jsonl, which has other rows: give another --name, or --append" in refused.err
    assert [row["id"] for row in kept(config, "cats")] == ["a"]
    added = cli("enqueue", "b/cats.jsonl", "--model", "a/b", "--append")
    assert (added.code, added.out.splitlines()[1]) == (
        0,
        f"The batch was first enqueued from {(tmp_path / 'a' / 'cats.jsonl').resolve()}",
    )


async def test_a_budget_on_the_command_line(cli: Cli, source: str, redis: Redis, config: Config) -> None:
    enqueue = ("enqueue", source, "--model", "a/b", "--max-cost", "1.25")
    for refused in (cli(*enqueue), cli(*enqueue, "--check")):
        assert (refused.code, refused.out) == (2, "")
        assert "line 1: a/b has no price, and 149 more prompts\nAdd what is missing to BATCH_PRICES" in refused.err
    assert await Batches(redis).names() == []
    prices = Prices.parse("a/b=0.003")
    answer = cli(*enqueue, "--max-predictions", "9", prices=prices)
    assert answer.out.splitlines()[0] == ("cats: 150 prompts enqueued in 2 shards; costs at least $0.45, at most $1.35")
    assert Folder(config.output_dir, "cats").path.exists()
    answer = cli("retry", "cats", "--max-cost", "2", prices=prices)
    assert answer.code == 0, answer.err
    answer = cli("enqueue", source, "--model", "a/b", "--max-predictions", "10", prices=prices)
    assert answer.code == 0, answer.err
    batch = await Batches(redis).get("cats")
    assert (batch.max_predictions, batch.max_cost) == (10, 2_000_000)


def test_a_limit_of_predictions_in_flight_on_the_command_line(cli: Cli, source: str) -> None:
    def limit() -> int | None:
        found: int | None = json.loads(cli("status", "cats", "--json").out)["max_in_flight"]
        return found

    enqueue = ("enqueue", source, "--model", "a/b")
    assert cli(*enqueue, "--max-in-flight", "0").code == 2
    assert cli(*enqueue).code == 0
    assert limit() is None
    assert cli(*enqueue, "--max-in-flight", "20").code == 0
    assert cli(*enqueue).code == 0
    assert limit() == 20
    assert "at most 20 in flight" in cli("status", "cats").out
    assert cli("retry", "cats", "--max-in-flight", "30").code == 0
    assert limit() == 30


async def test_all_errors_of_a_file_at_once(cli: Cli, tmp_path: Path, redis: Redis) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\nno json\n')
    for arguments in (["enqueue", "bad.jsonl"], ["enqueue", "bad.jsonl", "--check"], ["run", "bad.jsonl"]):
        answer = cli(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert "bad.jsonl: 2 errors; nothing was enqueued" in answer.err
        assert "line 1: " in answer.err
        assert "line 2: " in answer.err
    assert await Batches(redis).names() == []


async def test_retry_enqueues_what_did_not_succeed(cli: Cli, source: str, config: Config, redis: Redis) -> None:
    cli("enqueue", source, "--model", "a/b", "--limit", "2")
    folder = Folder(config.output_dir, "cats")
    outcomes: tuple[Outcome, ...] = ("succeeded", "failed")
    for index, outcome in enumerate(outcomes):
        error = None if outcome == "succeeded" else Failure(kind="model_error", message="boom")
        row = kept(config, "cats")[index]
        result = Result(index=index, status=outcome, error=error, **row)
        folder.prompt(result.id).mkdir()
        (folder.prompt(result.id) / "prediction.json").write_text(result.model_dump_json())
        await Batches(redis).settle("cats", index, outcome)
    await Batches(redis).finish("cats")
    answer = cli("retry", "cats", "--json")
    assert answer.code == 0, answer.err
    facts = json.loads(answer.out)
    assert list(facts) == RECEIPT_KEYS
    assert (facts["enqueued"], facts["already_done"], facts["total"]) == (1, 1, 2)
    assert json.loads(cli("status", "cats", "--json").out)["state"] in ("queued", "running")


def test_schedules(cli: Cli, config: Config, source: str) -> None:
    assert "There is no schedule" in cli("schedules").out
    config.schedules.write_text(f'[[schedule]]\nname = "nightly"\ncron = "0 2 * * *"\nfile = "{source}"\n')
    _, row = cli("schedules").out.splitlines()
    assert row.split()[:6] == ["nightly", "0", "2", "*", "*", "*"]
    (facts,) = json.loads(cli("schedules", "--json").out)
    assert (facts["name"], facts["last"]) == ("nightly", None)
    assert facts["next"]
    nightly = config.schedules.read_text()
    config.schedules.write_text(nightly + nightly.replace("0 2", "0 0 2").replace("nightly", "other"))
    answer = cli("schedules")
    assert answer.code == 2
    assert [line.split()[0] for line in answer.out.splitlines()] == ["schedule", "nightly", "other", "other:"]
    assert "line 7: cron: '0 0 2 * * *' has 6 fields" in answer.out
    config.schedules.write_text("nonsense")
    answer = cli("schedules")
    assert (answer.code, answer.out) == (2, "")
    assert "schedules.toml" in answer.err


@pytest.fixture
def own_server(config: Config) -> Iterator[dict[str, Any]]:
    yield {"redis_url": None}
    stop(config.redis_dir)


def test_the_embedded_server_outlives_commands_until_it_is_stopped(cli: Cli, own_server: dict[str, Any]) -> None:
    assert cli("redis-stop", **own_server).out.startswith("No embedded server was running; ")
    assert cli("pause", "for a while", **own_server).code == 0
    assert cli("redis-stop", **own_server).out.startswith("Stopped; the next ")
    assert cli("resume", **own_server).out.startswith("Resumed; "), "it came back with all it knew"


# A folder where nothing was ever enqueued


def test_next_times_of_all_schedules(cli: Cli, config: Config) -> None:
    assert "There is no schedule" in cli("schedules", "next").out
    table = '[[schedule]]\nname = "{}"\ncron = "{}"\nfile = "f.txt"\nmodel = "a/b"\ntimezone = "Asia/Tokyo"\n'
    config.schedules.write_text(table.format("hourly", "0 * * * *") + table.format("half", "30 * * * *"))
    facts = json.loads(cli("schedules", "next", "4", "--json").out)
    times = [datetime.fromisoformat(fact["time"]) for fact in facts]
    assert times == sorted(times)
    assert {fact["time"][-6:] for fact in facts} == {"+09:00"}
    assert sorted(fact["schedule"] for fact in facts) == ["half", "half", "hourly", "hourly"]
    heading, *rows = cli("schedules", "next").out.splitlines()
    assert heading.split() == ["next", "timezone", "schedule", "batch"]
    assert len(rows) == 5
    assert "UTC+09:00  Asia/Tokyo" in rows[0]
    config.schedules.write_text(table.format("hourly", "0 * * * *") + table.format("wrong", "61 * * * *"))
    answer = cli("schedules", "next", "1")
    assert (answer.code, "61 * * * *" in answer.out) == (2, True)


@pytest.mark.parametrize("command", ["status", "watch", "verify", "retry", "cancel", "delete", "resume", "schedules"])
def test_what_begins_nothing_starts_no_server(
    cli: Cli, own_server: dict[str, Any], config: Config, command: str
) -> None:
    batch = ["nightly"] if command in ("status", "watch", "verify", "retry", "cancel", "delete") else []
    answer = cli(command, *batch, **own_server)
    assert "Traceback" not in answer.err
    assert not config.redis_dir.exists()
    if command == "verify":
        assert (answer.code, "neither Redis nor" in answer.err) == (2, True)
    elif command == "schedules":
        assert (answer.code, "There is no schedule" in answer.out) == (0, True)
    else:
        assert (answer.code, answer.out) == (3, "")
        assert answer.err.startswith(f"Error: Nothing was ever enqueued here: the local server in {config.redis_dir} ")


def test_status_of_a_folder_where_nothing_was_enqueued(cli: Cli, own_server: dict[str, Any], config: Config) -> None:
    answer = cli("status", **own_server)
    assert (answer.code, answer.err) == (0, "")
    assert "There is no batch yet" in answer.out
    assert str(config.redis_dir) in answer.out
    assert json.loads(cli("status", "--json", **own_server).out) == []
    assert not config.redis_dir.exists()


def test_schedules_that_no_worker_has_seen_have_a_next_time(
    cli: Cli, own_server: dict[str, Any], config: Config, source: str
) -> None:
    config.schedules.write_text(f'[[schedule]]\nname = "nightly"\ncron = "0 2 * * *"\nfile = "{source}"\n')
    (facts,) = json.loads(cli("schedules", "--json", **own_server).out)
    assert (facts["next"] is None, facts["last"]) == (False, None)
    assert not config.redis_dir.exists()


def test_the_doctor_starts_no_server(cli: Cli, own_server: dict[str, Any], config: Config) -> None:
    answer = cli("doctor", module="worker", **own_server)
    assert f"ok       redis       the local server in {config.redis_dir} has never run" in answer.out
    assert not [line for line in answer.out.splitlines() if line.startswith("failure")]
    assert not config.redis_dir.exists()


def test_status_wakes_the_server_whose_data_is_there(cli: Cli, own_server: dict[str, Any], source: str) -> None:
    assert cli("enqueue", source, "--model", "a/b", **own_server).code == 0
    assert cli("redis-stop", **own_server).out.startswith("Stopped; the next ")
    answer = cli("status", **own_server)
    assert answer.code == 0
    assert Path(source).stem in answer.out


def test_what_is_not_found_is_said_with_where_it_was_looked_for(cli: Cli, config: Config) -> None:
    assert config.redis_url
    where = config.redis_url.get_secret_value().replace("%2F", "/")
    assert f"Asked: {where}." in cli("status").out.replace("%2F", "/")
    for command in ("status", "watch", "retry", "delete", "cancel"):
        assert f"(asked: {where})" in cli(command, "nobody").err.replace("%2F", "/"), command


def test_files_of_the_command_line_count_from_the_current_folder(cli: Cli, config: Config, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.jsonl").write_text('{"prompt": "x", "mask": "@mask.png"}\n')
    for name in ("a.png", "b.png", "prompts/mask.png"):
        (tmp_path / name).write_bytes(name.encode())
    answer = cli("enqueue", "prompts/a.jsonl", "--model", "a/b", "--each", "image=@a.png,@b.png", "--copy-inputs")
    assert answer.code == 0, answer.err
    rows = kept(config, "a")
    assert [row["input"]["image"]["$file"] for row in rows] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert {row["input"]["mask"]["$file"] for row in rows} == {str(tmp_path / "prompts" / "mask.png")}
    assert len(list((config.output_dir / "a" / ".inputs").iterdir())) == 3
    answer = cli("enqueue", "--check", "prompts/a.jsonl", "--model", "a/b", "--input", "style=@gone.png")
    assert (answer.code, answer.out) == (2, "")
    assert f"line 1: 'style' names {tmp_path}/gone.png, which does not exist" in answer.err
