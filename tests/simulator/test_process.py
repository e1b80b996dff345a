"""The simulator as a process: its first line, its flags, its end."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import psutil
import pytest

from simulator.process import running


@contextmanager
def started(*flags: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    command = [sys.executable, "-m", "simulator", *flags]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        try:
            assert it.stdout is not None
            yield it, it.stdout.readline().split()
        finally:
            it.kill()


def errors_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(request.config.rootpath)


def test_the_first_line_tells_both_addresses() -> None:
    with started("--port", "0", "--files-host", "files.localhost") as (_, line):
        assert line[0::2] == ["simulator", "files"]
        assert line[3].startswith("http://files.localhost:")
        with urlopen(f"{line[1]}/control/health") as answer:
            assert json.load(answer) == {"status": "ok", "created": 0}


def test_flags_are_settings_and_survive_a_reset() -> None:
    with running("--fault", "failed=1", seed=3, limit_creates=7, limit_rejected=False, token=None) as simulator:
        assert simulator.settings()["limit_creates"] == 7
        assert simulator.settings(limit_creates=9)["limit_rejected"] is False
        assert simulator.control() == {"failed": {"rate": 1.0, "next": 0, "kinds": ["create"]}}
        simulator.clear()
        simulator.reset()
        assert simulator.settings()["limit_creates"] == 7
        assert set(simulator.control()) == {"failed"}


def test_leaving_ends_the_process() -> None:
    with running() as simulator:
        assert psutil.pid_exists(simulator.pid)
    assert not psutil.pid_exists(simulator.pid)


def test_it_ends_with_its_parent() -> None:
    with started("--port", "0", "--until-end-of-input") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def test_it_ends_soon_while_calls_hang() -> None:
    with started("--port", "0", "--fault", "hang=1") as (process, line):
        connection = http.client.HTTPConnection(line[1].removeprefix("http://"))
        connection.request("GET", "/v1/account", headers={"Authorization": "Bearer x"})
        process.terminate()
        process.wait(timeout=20)
        connection.close()
        assert errors_of(process) == ""


@pytest.mark.parametrize(
    "flags", [["--limiter", "none"], ["--limit-creates", "0"], ["--fault", "nonsense=1"], ["--fault", "hang=often"]]
)
def test_wrong_flags_are_a_usage_error(flags: list[str]) -> None:
    with started(*flags) as (process, line):
        assert line == []
        assert process.wait(timeout=20) == 2
        assert "error:" in errors_of(process)


def test_help_names_models_flags_and_faults() -> None:
    command = [sys.executable, "-m", "simulator", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(word in shown for word in ("simulator/nested", "--limit-creates", "lost_answer"))


def test_a_simulator_that_does_not_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="did not start"), running(limiter="none"):
        pass
