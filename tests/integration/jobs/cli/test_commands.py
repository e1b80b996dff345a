"""The commands that ask and tell, as real processes: exit codes, standard output, standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from jobs.account.live_workers import send_heartbeat
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import Manifest, write_manifest
from jobs.config import Config
from jobs.operations.operations import Operations
from jobs.operations.report import NO_SUCH_BATCH
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Failure, Outcome, Result
from tests.fork_server import Launch, start_python
from tests.imports import loaded_by
from tests.json_outputs import is_as_described

Cli = Callable[..., Any]
STATUS_KEYS = [
    "batch",
    "state",
    "reason",
    "reasons",
    "total",
    "succeeded",
    "failed",
    "canceled",
    "in_flight",
    "waiting",
    "unknown_creates",
    "output_lost",
    "empty",
    "unsaved",
    "unsaved_host",
    "aborted",
    "over_budget",
    "predictions",
    "max_predictions",
    "cost",
    "cost_is_partial",
    "max_cost",
    "model_costs",
    "max_in_flight",
    "paused",
    "dead_letters",
    "stuck",
    "created_at",
    "finished_at",
    "rate_per_minute",
    "eta",
    "workers",
    "api_host",
]
START = "python -m arq worker.Settings"


@pytest.fixture
def settled(redis: Redis, config: Config) -> Callable[..., Any]:
    """`await settled("name", "succeeded", "failed", total=3)`: a batch in Redis and on disk that went so far."""

    async def make(name: str, *outcomes: Outcome, total: int | None = None, at: float | None = None) -> Folder:
        total = len(outcomes) if total is None else total
        batches, folder = Batches(redis), Folder(config.output_dir, name)
        manifest = Manifest(name, f"id-of-{name}", config.api_host, at or time.time())
        await batches.open(
            Batch(name, manifest.id, manifest.api_host, manifest.created_at, total, generation=0, priority=1.0)
        )
        folder.path.mkdir(parents=True)
        write_manifest(folder, manifest, fsync=False)
        rows = [{"id": f"p{index}", "model": "a/b", "input": {"prompt": "x"}} for index in range(total)]
        folder.prompts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        for index, outcome in enumerate(outcomes):
            error = None if outcome == "succeeded" else Failure(kind="model_error", message="\x1b[2Jboom")
            result = Result(id=f"p{index}", index=index, status=outcome, model="a/b", input={}, error=error)
            folder.prompt(result.id).mkdir()
            (folder.prompt(result.id) / "prediction.json").write_text(result.model_dump_json())
            await batches.settle(name, index, outcome)
        await batches.finish(name)
        return folder

    return make


LOST = "Error: the output could not be written: No space left on device. What was done stays done.\n"


def end_of(launch: Launch, command: tuple[str, ...], env: dict[str, str], cwd: Path, out: Any) -> tuple[int, str]:
    """The exit code of a command whose output goes there, and its errors."""
    with Path(os.devnull).open("rb") as nothing, TemporaryFile() as err:
        code = launch(command, env, cwd, (nothing, out, err)).wait(60)
        return code, os.pread(err.fileno(), 1 << 20, 0).decode()


def facts_of(table: str) -> dict[str, str]:
    """The rows of a table of two columns."""
    return dict([*line.strip().rsplit(maxsplit=1), ""][:2] for line in table.splitlines())


# Status


def test_status_of_nothing(cli: Cli) -> None:
    answer = cli("status")
    assert (answer.code, answer.err) == (0, "")
    assert "There is no batch yet" in answer.out
    assert json.loads(cli("status", "--json").out) == []


async def test_status_lists_all_batches_newest_first(cli: Cli, settled: Callable[..., Any]) -> None:
    now = time.time()
    await settled("older", "succeeded", "failed", at=now - 60)
    await settled("newer", "succeeded", total=3, at=now)
    answer = cli("status")
    head, first, second, note = answer.out.splitlines()
    assert head.split()[:4] == ["batch", "state", "done", "failed"]
    assert first.split()[:3] == ["newer", "waiting", "1/3"]
    assert second.split()[:4] == ["older", "finished", "2/2", "1"]
    assert START in note
    facts = json.loads(cli("status", "--json").out)
    assert [fact["batch"] for fact in facts] == ["newer", "older"]
    assert [list(fact) for fact in facts] == [STATUS_KEYS, STATUS_KEYS]


async def test_status_lists_only_batches_that_the_options_select(cli: Cli, settled: Callable[..., Any]) -> None:
    now = time.time()
    await settled("older", "succeeded", "failed", at=now - 7200)
    await settled("newer", "succeeded", total=3, at=now)
    for given in (["--failed"], ["--state", "finished"], ["--name", "old*"]):
        facts = json.loads(cli("status", *given, "--json").out)
        assert [fact["batch"] for fact in facts] == ["older"], given
    assert [fact["batch"] for fact in json.loads(cli("status", "--since", "1h", "--json").out)] == ["newer"]
    assert [fact["batch"] for fact in json.loads(cli("status", "--sort", "oldest", "--json").out)] == ["older", "newer"]
    nothing = cli("status", "--name", "cats-*")
    assert (nothing.code, nothing.out.strip()) == (0, NO_SUCH_BATCH)


async def test_status_of_all_has_batches_that_only_their_folders_know(
    cli: Cli, settled: Callable[..., Any], redis: Redis, config: Config
) -> None:
    now = time.time()
    await settled("kept", "succeeded", total=2, at=now)
    await settled("wiped", "succeeded", "failed", total=3, at=now - 60)
    await settled("old", "failed", at=now - 120)
    for name in ("wiped", "old"):
        await Batches(redis).delete(name)
    assert "wiped" not in cli("status").out
    facts = json.loads(cli("status", "--all", "--json").out)
    assert [(fact["batch"], fact["state"], fact["total"], fact["failed"]) for fact in facts] == [
        ("kept", "running", 2, 0),
        ("wiped", "forgotten", 3, 1),
        ("old", "forgotten", 1, 1),
    ]
    assert is_as_described("batches", cli("status", "--all", "--json").out)
    assert [fact["batch"] for fact in json.loads(cli("status", "--all", "--state", "forgotten", "--json").out)] == [
        "wiped",
        "old",
    ]
    answer = cli("status", "--all")
    assert [line.split()[:3] for line in answer.out.splitlines()[2:4]] == [
        ["wiped", "forgotten", "2/3"],
        ["old", "forgotten", "1/1"],
    ]
    assert "Forgotten: 2 batches are known by their folders alone" in answer.out
    assert "goes on with one that is not done" in answer.out
    (config.output_dir / "old" / "batch.json").write_text("{")
    assert "old/batch.json cannot be read" in cli("status", "--all").out
    refused = cli("status", "wiped")
    assert (refused.code, "`python -m jobs results wiped` sums it up" in refused.err) == (2, True)
    assert cli("status", "wiped", "--all").code == 2
    await Batches(redis).delete("kept")
    assert "kept" in cli("status", "--all").out


async def test_status_of_one_batch(cli: Cli, settled: Callable[..., Any], redis: Redis, config: Config) -> None:
    await settled("one", "succeeded", "failed", total=4)
    facts = json.loads(cli("status", "one", "--json").out)
    assert list(facts) == STATUS_KEYS
    assert (facts["state"], facts["total"], facts["succeeded"], facts["failed"]) == ("running", 4, 1, 1)
    assert (facts["waiting"], facts["workers"], facts["finished_at"]) == (2, 0, None)
    await send_heartbeat(redis, config.api_host, "w", 60)
    answer = cli("status", "one")
    rows = facts_of(answer.out)
    assert (rows["state"], rows["failed"], rows["workers"]) == ("running", "1", "1")
    assert "2 of 4" in answer.out
    assert START not in answer.out


def test_an_unknown_batch_is_bad_input(cli: Cli) -> None:
    for command in ("status", "results", "retry", "delete"):
        answer = cli(command, "nobody")
        assert (answer.code, answer.out) == (2, ""), command
        assert answer.err.startswith("Error: "), command
        assert "nobody" in answer.err
        assert "Traceback" not in answer.err


# Wrong surroundings


def test_a_wrong_setting_is_named(cli: Cli) -> None:
    answer = cli("status", max_in_flight=-1)
    assert answer.code == 2
    assert "BATCH_MAX_IN_FLIGHT" in answer.err


@pytest.mark.parametrize("command", [["status"], ["enqueue", "f.txt", "--model", "a/b"]])
def test_no_redis(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "f.txt").write_text("a cat\n")
    answer = cli(*command, redis_url=f"unix://{tmp_path}/nothing")
    assert (answer.code, answer.out) == (3, "")
    assert str(tmp_path) in answer.err
    assert "Traceback" not in answer.err


async def test_an_unexpected_error_keeps_its_traceback(cli: Cli, settled: Callable[..., Any], redis: Redis) -> None:
    await settled("odd", "succeeded")
    async with redis.pipeline() as pipe:
        pipe.hset("replicate-batch:batch:odd", "total", "many")
        await pipe.execute()
    answer = cli("status", "odd")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "ValueError" in answer.err


# Watch


async def test_watch_ends_with_the_batch(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("good", "succeeded", "succeeded")
    answer = cli("watch", "good")
    assert (answer.code, answer.err) == (0, "")
    end = "`python -m jobs results good` sums it up, and `python -m jobs open good` opens its gallery"
    assert answer.out == f"good: finished, 2 of 2 done\n{end}\n"


async def test_watch_follows_the_newest_and_tells_of_failures(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("older", "succeeded", at=time.time() - 60)
    await settled("newer", "succeeded", "failed")
    answer = cli("watch", "--json")
    assert answer.code == 1
    facts = json.loads(answer.out)
    assert list(facts) == STATUS_KEYS
    assert (facts["batch"], facts["failed"]) == ("newer", 1)


def test_watch_without_a_batch(cli: Cli) -> None:
    answer = cli("watch")
    assert answer.code == 2
    assert "There is no batch yet" in answer.err


async def test_watch_goes_on_until_all_is_settled(
    nursery: Any, child_env: dict[str, str], settled: Callable[..., Any], redis: Redis, eventually: Callable[..., Any]
) -> None:
    await settled("slow", "succeeded", total=2)
    child = nursery.start("-m", "jobs", "watch", "slow", env=child_env)
    await eventually(lambda: START in child.log())
    assert child.process.poll() is None
    await Batches(redis).settle("slow", 1, "canceled")
    await Batches(redis).finish("slow")
    assert child.wait() == 1
    first, note, last, end = child.log().splitlines()
    assert first.startswith("slow: waiting, 1 of 2 done")
    assert note.startswith("  No worker is up.")
    assert last == "slow: finished, 2 of 2 done, 1 canceled"
    assert end.startswith("1 prompt did not succeed: ")


async def test_watch_tells_of_a_pause_and_of_a_deleted_batch(
    nursery: Any, child_env: dict[str, str], settled: Callable[..., Any], cli: Cli, eventually: Callable[..., Any]
) -> None:
    await settled("slow", total=2)
    cli("pause", "budget spent")
    child = nursery.start("-m", "jobs", "watch", env=child_env)
    await eventually(lambda: "Paused: budget spent. `python -m jobs resume`" in child.log())
    assert cli("delete", "slow", "--force").code == 0
    assert child.wait() == 2
    assert "does not know 'slow' any more" in child.log()


async def test_ctrl_c_ends_watch_quietly(
    nursery: Any, child_env: dict[str, str], settled: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    await settled("slow", total=2)
    child = nursery.start("-m", "jobs", "watch", env=child_env)
    await eventually(lambda: "slow: queued" in child.log())
    child.process.send_signal(2)
    assert child.wait() == 130
    assert "Traceback" not in child.log()


# Results


async def test_results_for_people(cli: Cli, settled: Callable[..., Any]) -> None:
    folder = await settled("mixed", "succeeded", "failed", "canceled")
    answer = cli("results", "mixed")
    assert answer.code == 1
    rows = facts_of(answer.out)
    assert [rows[outcome] for outcome in ("succeeded", "failed", "canceled")] == ["1", "1", "1"]
    assert (rows["results"], rows["errors"]) == (str(folder.results), str(folder.errors))
    assert len(folder.results.read_text().splitlines()) == 3


async def test_results_of_success_exit_with_0(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("good", "succeeded")
    answer = cli("results", "good")
    assert answer.code == 0
    assert "errors" not in answer.out


async def test_results_of_an_unfinished_batch_exit_with_0(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("half", "failed", total=2)
    answer = cli("results", "half")
    assert answer.code == 0
    assert "not done yet" in answer.out


async def test_results_as_lines(cli: Cli, settled: Callable[..., Any]) -> None:
    folder = await settled("mixed", "succeeded", "failed", "canceled")
    answer = cli("results", "mixed", "--json")
    assert answer.code == 1
    assert answer.out == folder.results.read_text()
    assert [json.loads(line)["id"] for line in answer.out.splitlines()] == ["p0", "p1", "p2"]
    failed = cli("results", "mixed", "--json", "--failed")
    assert [json.loads(line)["status"] for line in failed.out.splitlines()] == ["failed", "canceled"]


async def test_failures_for_people_cannot_steer_the_terminal(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("mixed", "succeeded", "failed")
    _, row, _ = cli("results", "mixed", "--failed").out.splitlines()
    assert row.split() == ["p1", "model_error", "�[2Jboom"]


async def test_results_need_no_redis(cli: Cli, settled: Callable[..., Any], tmp_path: Path) -> None:
    folder = await settled("good", "succeeded")
    assert cli("results", "good", redis_url=f"unix://{tmp_path}/nothing").code == 0
    answer = cli("gallery", "good", redis_url=f"unix://{tmp_path}/nothing")
    assert answer.code == 0
    assert answer.out == f"{folder.gallery}\n"
    assert "<html" in folder.gallery.read_text()


async def test_a_reader_that_goes_away_is_no_error(
    settled: Callable[..., Any], child_env: dict[str, str], launch: Launch, tmp_path: Path
) -> None:
    folder = await settled("long", "succeeded")
    row = {"id": "p0", "model": "a/b", "input": {"prompt": "x"}}
    folder.prompts.write_text(f"{json.dumps(row)}\n" * 2_000)
    for arguments in (["results", "long", "--json"], ["status"], ["results", "long"]):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as gone:
            ended = end_of(launch, ("-m", "jobs", *arguments), child_env, tmp_path, gone)
        assert ended == (141, ""), arguments


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where every write finds a full disk")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["pause"], ["--help"], ["--version"]])
def test_a_full_disk_behind_standard_output_is_said(
    child_env: dict[str, str], arguments: list[str], unbuffered: str, launch: Launch, tmp_path: Path
) -> None:
    env = {**child_env, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        assert end_of(launch, ("-m", "jobs", *arguments), env, tmp_path, full) == (2, LOST)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where every write finds a full disk")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_python_itself_says_it_once_too(child_env: dict[str, str], unbuffered: str, tmp_path: Path) -> None:
    env = {**child_env, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        assert end_of(start_python, ("-m", "jobs", "status"), env, tmp_path, full) == (2, LOST)


def test_a_closed_standard_output_takes_all(child_env: dict[str, str]) -> None:
    command = ["sh", "-c", f"exec '{sys.executable}' -m jobs status >&-"]
    done = subprocess.run(command, env=child_env, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# Pause, cancel, delete


def test_pause_and_resume(cli: Cli) -> None:
    assert cli("resume").out == "Nothing was paused; `python -m jobs status` shows all batches\n"
    assert cli("pause", "budget spent").out == "Paused: budget spent; `python -m jobs resume` lifts it\n"
    assert cli("pause").out == "Paused already: budget spent; `python -m jobs resume` lifts it\n", (
        "the first reason stays"
    )
    assert cli("resume").out == "Resumed; `python -m jobs status` shows all batches\n"
    assert cli("pause").out == "Paused: paused by hand; `python -m jobs resume` lifts it\n"
    cli("resume")
    assert cli("pause", "trying", "it", "out").out.startswith("Paused: trying it out; ")


async def test_one_batch_is_paused_and_resumed(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("half", "succeeded", total=2)
    assert (
        cli("pause", "--batch", "half", "lunch").out
        == "half: paused: lunch; `python -m jobs resume --batch half` lifts it\n"
    )
    assert (
        cli("pause", "--batch", "half").out
        == "half: paused already: lunch; `python -m jobs resume --batch half` lifts it\n"
    )
    status = json.loads(cli("status", "half", "--json").out)
    assert (status["state"], status["reason"], status["paused"]) == ("paused", "lunch", "lunch")
    assert "half is paused: lunch. `python -m jobs resume --batch half` lifts it." in cli("status", "half").out
    stays = "half stays paused: python -m jobs resume --batch half\n"
    assert cli("resume").out == f"Nothing was paused; `python -m jobs status` shows all batches\n{stays}"
    assert cli("resume", "--batch", "half").out == "half: resumed; `python -m jobs watch half` follows it\n"
    assert cli("resume", "--batch", "half").out.startswith("half: it was not paused itself; ")
    assert cli("pause", "--batch", "none").code == 2
    cli("cancel", "half")
    assert (
        cli("pause", "--batch", "half").out
        == "half: nothing was paused; it is being canceled; `python -m jobs watch half` follows it\n"
    )


async def test_limit_without_options_shows_the_limits(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("half", "succeeded", total=2)
    assert cli("limit", "half", "--max-in-flight", "7").code == 0
    shown = cli("limit", "half").out.splitlines()[0]
    assert shown == "half: --max-predictions none, --max-cost none, --max-in-flight 7, --priority 1"


async def test_watch_takes_the_newest_batch_that_is_not_finished(
    cli: Cli, settled: Callable[..., Any], redis: Redis, config: Config
) -> None:
    now = time.time()
    await settled("open", "succeeded", total=2, at=now - 60)
    await settled("done", "succeeded", at=now)
    operations = Operations(config, redis)
    assert await operations.newest(None) == "open"
    await Batches(redis).settle("open", 1, "succeeded")
    await Batches(redis).finish("open")
    assert await operations.newest(None) == "done"
    assert cli("watch").err == "Watching done, the newest batch; `python -m jobs status` lists all\n"


async def test_cancel_says_who_will_do_it(cli: Cli, settled: Callable[..., Any], redis: Redis, config: Config) -> None:
    await settled("half", "succeeded", total=2)
    answer = cli("cancel", "half")
    assert answer.code == 0
    assert "will be canceled by the next worker" in answer.out
    assert START in answer.out
    assert (await Batches(redis).get("half")).cancel_requested
    await send_heartbeat(redis, config.api_host, "w", 60)
    assert "is being canceled" in cli("cancel", "half").out
    assert json.loads(cli("status", "half", "--json").out)["reason"] == "is being canceled"


async def test_cancel_leaves_a_finished_batch_alone(cli: Cli, settled: Callable[..., Any]) -> None:
    await settled("good", "succeeded")
    answer = cli("cancel", "good")
    assert answer.code == 0
    assert "good is finished already" in answer.out
    assert json.loads(cli("status", "good", "--json").out)["state"] == "finished"


async def test_delete_forgets_but_keeps_the_folder(cli: Cli, settled: Callable[..., Any], redis: Redis) -> None:
    folder = await settled("good", "succeeded")
    assert cli("delete", "good").code == 0
    assert [key for key in await redis.keys("*") if b"good" in key and b":pace:" not in key] == []
    assert folder.read_record("p0") is not None
    assert cli("results", "good").code == 0
    assert cli("delete", "good").code == 2


async def test_delete_refuses_an_unfinished_batch(cli: Cli, settled: Callable[..., Any], redis: Redis) -> None:
    await settled("half", "succeeded", total=2)
    answer = cli("delete", "half")
    assert answer.code == 2
    assert "--force" in answer.err
    assert await Batches(redis).names() == ["half"]
    assert cli("delete", "half", "--force").code == 0
    assert await Batches(redis).names() == []


# Speed and encoding


@pytest.mark.parametrize(
    "module", ["httpx", "aiofiles", "worker", "jinja2", "cronsim", "jobs.enqueue.enqueue", "jobs.prompts_file.reader"]
)
def test_status_loads_only_what_it_needs(module: str) -> None:
    assert module not in loaded_by("import jobs.cli.app, jobs.cli.commands.status, jobs.operations.operations")


def test_a_poor_encoding_is_no_error(child_env: dict[str, str]) -> None:
    env = {**child_env, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "jobs", "pause", "wait …"]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"Paused: wait \\u2026; `python -m jobs resume` lifts it\n")
