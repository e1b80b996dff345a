"""`python -m demo` as `make demo` runs it: once, again, on damage, and stopped midway."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.plan import SPECIAL
from tests.fork_server import Launch, start_python

ROOT = Path(__file__).parents[2]
PROXY = {"HTTP_PROXY": "http://127.0.0.1:9"}
DISTURBING = "REDIS_URL=redis://127.0.0.1:1\nBATCH_OUTPUT_DIR=elsewhere\nBATCH_USE_FILE_OUTPUT=false\n"

SOME_EARLY_MOST_LATE = ("--predict-min=0", "--predict-max=30")


@dataclass(frozen=True)
class Stage:
    """A working directory and a port of the demo's own."""

    directory: Path
    port: int
    launch: Launch

    @property
    def folder(self) -> Path:
        return self.directory / "outputs" / f"demo-{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "demo.log"

    def start(self, launch: Launch, *command: str) -> Any:
        env = {**os.environ, "PYTHONPATH": str(ROOT)} | PROXY
        with self.log.open("wb") as log, Path(os.devnull).open("rb") as nothing:
            return launch(("-m", *command), env, self.directory, (nothing, log, log))

    def play(self, launch: Launch | None = None) -> tuple[int, str]:
        code = self.start(launch or self.launch, "demo", f"--port={self.port}").wait(240)
        return code, self.log.read_text()

    def results(self) -> dict[str, Any]:
        lines = (self.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
        return {row["id"]: row for row in map(json.loads, lines)}

    def simulator_is_up(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


def two_free_ports() -> int:
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
            return port


@pytest.fixture
def stage(tmp_path: Path, launch: Launch) -> Iterator[Stage]:
    (tmp_path / ".env").write_text(DISTURBING)
    stage = Stage(tmp_path, two_free_ports(), launch)
    yield stage
    stage.start(launch, "jobs", "redis-stop").wait(60)


def check_all_goes_as_planned(stage: Stage) -> None:
    code, output = stage.play(start_python)
    assert code == 0, output
    assert "All went as planned." in output
    assert str(stage.folder / "index.html") in output
    results = stage.results()
    assert len(results) == 40
    assert {name for name, row in results.items() if row["status"] != "succeeded"} == {
        name for name, plan in SPECIAL.items() if plan.kind
    }
    assert results["fails-once-then-works"]["attempts"] == 2
    assert not stage.simulator_is_up()
    assert not (stage.directory / "elsewhere").exists()


def check_again_it_spends_nothing(stage: Stage) -> None:
    record = (stage.folder / "haiku" / "prediction.json").stat().st_mtime_ns
    code, output = stage.play()
    assert code == 0, output
    assert "all done already" in output
    assert "nothing was created, nothing spent" in output
    assert (stage.folder / "haiku" / "prediction.json").stat().st_mtime_ns == record


def check_damage_is_noticed(stage: Stage) -> None:
    picture = stage.folder / "harbour-at-dawn" / "output_0.png"
    picture.write_bytes(picture.read_bytes()[:-1])
    code, output = stage.play()
    assert code == 1, output
    assert "harbour-at-dawn/output_0.png is not whole" in output


def test_all_goes_as_planned_and_is_not_done_twice(stage: Stage) -> None:
    check_all_goes_as_planned(stage)
    check_again_it_spends_nothing(stage)
    check_damage_is_noticed(stage)


def test_stopped_midway_it_ends_everything_and_starts_over(stage: Stage) -> None:
    check_a_stop(stage, signal.SIGINT)
    check_a_stop(stage, signal.SIGTERM)
    assert "this one starts over" in stage.log.read_text()
    code, output = stage.play()
    assert code == 0, output
    assert "this one starts over" in output
    assert len(stage.results()) == 40


def check_a_stop(stage: Stage, stop: signal.Signals) -> None:
    process = stage.start(stage.launch, "demo", f"--port={stage.port}", "--", *SOME_EARLY_MOST_LATE)
    try:
        wait_for_a_record(stage, process)
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)  # as a terminal's Ctrl-C does
        else:
            process.send_signal(stop)
        code = process.wait(120)
    finally:
        process.kill()
    output = stage.log.read_text()
    assert code == 130, output
    assert not stage.simulator_is_up()
    assert not (stage.folder / "results.jsonl").exists(), output
    for record in stage.folder.glob("*/prediction.json"):
        record.unlink()


def wait_for_a_record(stage: Stage, process: Any) -> None:
    deadline = time.monotonic() + 60
    while not any(stage.folder.glob("*/prediction.json")):
        assert process.poll() is None, stage.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
