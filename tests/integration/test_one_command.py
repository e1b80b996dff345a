"""`replicate-batch`: every command under one name, each loaded when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

ALL = ("enqueue", "run", "status", "verify", "worker", "check", "doctor", "orphans", "simulator")


@pytest.fixture
def whole(cli: Callable[..., Any]) -> Callable[..., Any]:
    """`whole("status")`: the command as it is installed."""
    return lambda *arguments, **settings: cli(*arguments, module="replicate_batch", **settings)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command(whole: Callable[..., Any], flag: str) -> None:
    answer = whole(flag)
    assert (answer.code, answer.err) == (0, "")
    commands = answer.out.partition("Run:")[2]
    assert set(ALL) <= {line.split()[0] for line in commands.splitlines() if line}
    assert "..." not in commands


@pytest.mark.parametrize("command", ALL)
def test_every_command_explains_itself(whole: Callable[..., Any], command: str) -> None:
    answer = whole(command, "-h")
    assert (answer.code, answer.err) == (0, "")
    assert "sage:" in answer.out


@pytest.mark.parametrize(("module", "command"), [("jobs", "run"), ("worker", "doctor"), ("worker", "worker")])
def test_h_is_help_in_every_module(cli: Callable[..., Any], module: str, command: str) -> None:
    for arguments in (("-h",), (command, "-h")):
        answer = cli(*arguments, module=module)
        assert (answer.code, "Usage:" in answer.out) == (0, True)


def test_the_workers_commands_do_as_in_their_own_module(whole: Callable[..., Any]) -> None:
    assert whole("check").code == 1
    findings = json.loads(whole("doctor", "--json").out)
    assert {"redis", "schedules"} <= {finding["check"] for finding in findings}
    assert whole("orphans", "--since", "soon").code == 2
    answer = whole("orphans", "--since", "1h", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert whole("worker", "--burst").code == 0
    assert whole("worker", "--burst", replicate_api_token=None).code == 2
    assert whole("doktor").code == 2


def test_a_simulator_that_lacks_its_packages_says_so(child_env: dict[str, str]) -> None:
    program = (
        "import runpy, sys; sys.modules['starlette'] = None; sys.argv = ['x', 'simulator', '--port', '0']\n"
        "runpy.run_module('replicate_batch', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=child_env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: the simulator needs starlette")


def test_status_and_help_load_nothing_of_the_worker(child_env: dict[str, str]) -> None:
    for argument in ("status", "--help"):
        program = (
            f"import sys; sys.argv = ['x', '{argument}']\n"
            "from replicate_batch.__main__ import main\n"
            "try:\n    main()\nfinally:\n"
            "    print({'worker', 'httpx', 'simulator'} & set(sys.modules), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=child_env, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "set()\n")
