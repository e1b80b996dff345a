"""`run`: the whole product in one command, with a real worker, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.config import Config
from jobs.prices.setting import Prices
from tests.fork_server import ForkedProcess, Launch

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
IN_THE_FOREGROUND = (
    "import fcntl, runpy, sys, termios\n"
    "fcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"
    "sys.argv[0] = 'jobs'\n"
    "runpy.run_module('jobs', run_name='__main__', alter_sys=True)\n"
)
IMAGE = {"model": "simulator/image", "prompt": "a lamp", "width": 16, "height": 16}
BROKEN = {"model": "simulator/flaky", "prompt": "x", "error": "model"}
SLOW = {"model": "simulator/image", "prompt": "slow", "width": 16, "height": 16, "predict_time": 600}


def rows_of(directory: Path, model: str) -> str:
    """Write three prompts, of which the last is for that model."""
    rows = [{"id": "a", **IMAGE}, {"id": "b", **IMAGE}, {"id": "c", **IMAGE, "model": model}]
    (directory / "try.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "try.jsonl"


def test_a_corrected_row_is_paid_and_the_others_are_not(
    cli: Callable[..., Any], tmp_path: Path, simulator: Any
) -> None:
    assert cli("run", rows_of(tmp_path, "simulator/imgae"), "--no-model-check").code == 1
    corrected = rows_of(tmp_path, "simulator/image")
    refused = cli("run", corrected)
    assert refused.code == 2
    assert "add --replace: it takes corrected rows whose prompts did not succeed" in refused.err
    done = cli("run", corrected, "--replace")
    assert done.code == 0, done.err
    assert simulator.ledger(summary=True)["created"] == 3
    for command in ("verify", "gallery", "results"):
        answer = cli(command, "try")
        assert (answer.code, answer.err) == (0, ""), answer
    results = [json.loads(line) for line in cli("results", "try", "--json").out.splitlines()]
    assert [(one["id"], one["model"], one["status"]) for one in results] == [
        (name, "simulator/image", "succeeded") for name in "abc"
    ]


class Terminal:
    """A process that has a terminal of its own: what it shows, and keys to press."""

    process: subprocess.Popen[bytes] | ForkedProcess

    def __init__(self, launch: Launch, env: dict[str, str], directory: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        env = {**env, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        with os.fdopen(slave, "r+b", buffering=0) as screen:
            self.process = launch(("-c", IN_THE_FOREGROUND, *arguments), env, directory, (screen, screen, screen))
        self._shown = b""
        self._gone = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while not self._gone.is_set():
                if select.select([self.master], [], [], 0.05)[0]:
                    self._shown += os.read(self.master, 65536)
        except OSError:  # Linux says EIO when the last writer is gone
            return

    @property
    def shown(self) -> str:
        return ESCAPES.sub("", self._shown.decode("utf-8", "replace")).replace("\r\n", "\n")

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def close(self) -> None:
        self._gone.set()  # a master that is being read is not closed
        self._reader.join(20)
        os.close(self.master)

    def wait(self) -> int:
        code = self.process.wait(120)
        self._reader.join(20)
        return code

    def end(self) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else ():
            child.kill()
        self.process.kill()
        self.process.wait()
        if not self._gone.is_set():
            self.close()


@pytest.fixture
def terminal(launch: Launch, child_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def run(*arguments: str, **env: str) -> Terminal:
        opened.append(Terminal(launch, {**child_env, **env}, tmp_path, *arguments))
        return opened[-1]

    yield run
    for each in opened:
        each.end()


@pytest.fixture
def prompts(tmp_path: Path, simulator: Any) -> Callable[..., str]:
    simulator.settings(predict_min=0, predict_max=0.05)

    def write(*rows: dict[str, Any], name: str = "prompts.jsonl") -> str:
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return name

    return write


def test_run_does_it_all(cli: Callable[..., Any], prompts: Callable[..., str], config: Config, simulator: Any) -> None:
    source = prompts(IMAGE, IMAGE, BROKEN)
    answer = cli("run", source)
    folder = config.output_dir / "prompts"
    assert answer.code == 1, answer.err
    assert answer.out.startswith("prompts: 3 prompts enqueued in 1 shard\n")
    assert "prompts: finished, 3 of 3 done, 1 failed" in answer.out
    for path in (folder / "results.jsonl", folder / "errors.jsonl", folder / "index.html"):
        assert str(path) in answer.out
        assert path.exists()
    assert "model_error" in answer.out
    assert "cannot be broadcast together" in answer.out
    assert "No worker is up" not in answer.out, "its own is"
    assert "account" in answer.err, "the worker's log is on standard error"
    assert not (folder / ".worker.log").exists()
    assert (folder / "000001" / "output_0.webp").exists()

    creates = simulator.ledger(summary=True)["created"]
    again = cli("run", source)
    assert again.code == 1
    assert "all done already; nothing was enqueued" in again.out
    assert "succeeded" in again.out
    assert simulator.ledger(summary=True)["created"] == creates


def test_run_for_scripts(cli: Callable[..., Any], prompts: Callable[..., str]) -> None:
    options = ["--name", "mine", "--limit", "2", "--max-predictions", "7", "--max-cost", "0.0061", "--json"]
    answer = cli("run", prompts(IMAGE, IMAGE, IMAGE), *options, prices=Prices.parse("simulator/image=0.003"))
    assert answer.code == 0, answer.err
    status = json.loads(answer.out)
    assert (status["batch"], status["state"], status["succeeded"], status["total"]) == ("mine", "finished", 2, 2)
    assert (status["predictions"], status["max_predictions"]) == (2, 7)
    assert (status["cost"], status["max_cost"]) == (0.006, 0.0061)
    assert "mine: 2 prompts enqueued in 1 shard; costs at least $0.006, at most $0.018" in answer.err
    assert "mine: finished, 2 of 2 done, 2 of 7 predictions, $0.006 of $0.0061" in answer.err
    assert "cost $0.006" in " ".join(answer.err.split())


def test_a_pilot_says_what_all_will_cost(cli: Callable[..., Any], prompts: Callable[..., str], simulator: Any) -> None:
    simulator.settings(loose=0.0)
    source, prices = prompts(IMAGE, IMAGE, IMAGE), Prices.parse("simulator/image=0.003")
    answer = cli("run", source, "--pilot", "2", prices=prices)
    assert answer.code == 0, answer.err
    cost, time, more = answer.out.splitlines()[-3:]
    assert cost == "Pilot: 2 of 3 prompts cost $0.006; all 3, these included, will cost about $0.009"
    assert time.startswith("One worker takes about 0:00:0")
    assert more == "The same command without --pilot goes on with the other 1"
    rest = cli("run", source, "--by", "23:59", prices=prices)
    assert rest.code == 0
    said = r"Of 1 prompt left, (all|about 0) can be done by 23:59 \w+, going by the 2 results so far and one worker"
    assert re.match(said, rest.out), rest.out
    assert simulator.ledger(summary=True)["created"] == 3


def test_a_missing_token_is_said_before_anything_is_enqueued(
    cli: Callable[..., Any], prompts: Callable[..., str], config: Config, simulator: Any
) -> None:
    answer = cli("run", prompts(IMAGE), replicate_api_token=None)
    assert answer.code == 2
    assert "REPLICATE_API_TOKEN" in answer.err
    assert "Traceback" not in answer.err
    assert simulator.ledger(summary=True)["created"] == 0
    assert not config.output_dir.exists()


def test_a_wrong_file_of_schedules_keeps_no_batch_from_its_end(
    cli: Callable[..., Any], prompts: Callable[..., str], config: Config
) -> None:
    config.schedules.write_text("nonsense")
    assert cli("run", prompts(IMAGE)).code == 0


def test_a_refused_token_ends_the_run_and_says_what_stays(
    cli: Callable[..., Any], prompts: Callable[..., str], simulator: Any
) -> None:
    simulator.settings(token="another")
    answer = cli("run", prompts(IMAGE), "--no-model-check")
    assert answer.code == 2
    assert "does not accept REPLICATE_API_TOKEN" in answer.err
    assert "the worker ended before the batch was finished (exit code 2)" in answer.err
    assert "python -m jobs delete prompts --force" in answer.err
    assert "Traceback" not in answer.err
    assert simulator.ledger(summary=True)["created"] == 0


def test_on_a_terminal_a_bar_moves_and_the_log_is_a_file(
    terminal: Callable[..., Terminal], prompts: Callable[..., str], config: Config
) -> None:
    screen = terminal("run", prompts(IMAGE, IMAGE))
    assert screen.wait() == 0, screen.shown
    assert "━━━" in screen.shown
    assert "2/2" in screen.shown
    assert str(config.output_dir / "prompts" / "index.html") in screen.shown
    log = (config.output_dir / "prompts" / ".worker.log").read_text()
    assert "account" in log
    assert "account" not in screen.shown, "the log does not tear the bar"


def test_on_a_terminal_the_end_of_a_failed_workers_log_is_shown(
    terminal: Callable[..., Terminal], prompts: Callable[..., str], simulator: Any
) -> None:
    simulator.settings(token="another")
    screen = terminal("run", prompts(IMAGE), "--no-model-check")
    assert screen.wait() == 2
    assert "REPLICATE_API_TOKEN" in screen.shown
    assert "Its whole log:" in screen.shown
    assert "Traceback" not in screen.shown


async def test_ctrl_c_stops_the_worker_and_the_same_command_goes_on(
    terminal: Callable[..., Terminal],
    prompts: Callable[..., str],
    simulator: Any,
    eventually: Callable[..., Any],
    cli: Callable[..., Any],
) -> None:
    source = prompts(SLOW)
    screen = terminal("run", source)
    await eventually(lambda: "1 in flight" in screen.shown)
    (worker,) = psutil.Process(screen.process.pid).children()
    screen.press(b"\x03")
    assert screen.wait() == 130
    assert "Stopping the worker" in screen.shown
    assert "The same command continues from here" in screen.shown
    assert "Traceback" not in screen.shown
    assert not worker.is_running()
    simulator.advance(600)
    answer = cli("run", source)
    assert answer.code == 0, answer.err
    assert simulator.ledger(summary=True)["created"] == 1, "what ran was found again, not paid again"


async def test_a_terminal_that_is_closed_stops_the_worker(
    terminal: Callable[..., Terminal], prompts: Callable[..., str], config: Config, eventually: Callable[..., Any]
) -> None:
    screen = terminal("run", prompts(SLOW))
    await eventually(lambda: "1 in flight" in screen.shown)
    (worker,) = psutil.Process(screen.process.pid).children()
    screen.close()
    screen.process.wait(60)
    await eventually(lambda: not worker.is_running())
    log = (config.output_dir / "prompts" / ".worker.log").read_text()
    assert "stopping on SIGTERM: waiting for 0 creates" in log
    assert "Traceback" not in log


async def test_a_run_is_about_its_own_batch(
    cli: Callable[..., Any], prompts: Callable[..., str], simulator: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({**SLOW, "seed": seed}) + "\n" for seed in range(250)))
    assert cli("enqueue", str(other), "--priority", "100").code == 0
    answer = cli("run", prompts(IMAGE), "--limit", "1")
    assert answer.code == 0, answer.err
    assert simulator.ledger(summary=True)["created"] == 1, "nothing is spent on what else is queued"
    assert "3 shards of other batches wait for a worker: python -m arq worker.Settings" in answer.out
    assert json.loads(cli("status", "other", "--json").out)["state"] == "queued"


def test_a_run_of_all_works_on_what_else_is_queued(cli: Callable[..., Any], prompts: Callable[..., str]) -> None:
    other = prompts(IMAGE)
    assert cli("enqueue", other, "--name", "other").code == 0
    answer = cli("run", other, "--name", "mine", "--all")
    assert answer.code == 0, answer.err
    assert "wait for a worker" not in answer.out
    assert json.loads(cli("status", "other", "--json").out)["state"] == "finished"


async def test_sigterm_stops_the_worker_like_ctrl_c(
    nursery: Any, child_env: dict[str, str], prompts: Callable[..., str], simulator: Any, eventually: Callable[..., Any]
) -> None:
    child = nursery.start("-m", "jobs", "run", prompts(SLOW), env=child_env)
    await eventually(lambda: simulator.ledger(summary=True)["created"])
    (worker,) = psutil.Process(child.process.pid).children()
    child.process.send_signal(signal.SIGTERM)
    assert child.wait() == 130
    assert not worker.is_running()
    assert "Traceback" not in child.log()
