"""What the environment says of proxies and certificates is read before anything is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.redis_client.resilience import Redis
from tests.fork_server import start_python

WRONG = {
    "ALL_PROXY": "socks4://me:secret@127.0.0.1:1080",
    "HTTPS_PROXY": "http://me:secret#@proxy:8080",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "SSL_CERT_DIR": "/nowhere",
}


@pytest.fixture(params=WRONG)
def variable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in WRONG:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(request.param, WRONG[request.param])
    return str(request.param)


@pytest.fixture
def every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WRONG.items():
        monkeypatch.setenv(name, value)


of_python_itself = pytest.mark.parametrize("launch", [start_python], ids=["python"])
"""What Python imports may read these variables, too; a forked child has imported it without them."""

needing_the_api = pytest.mark.parametrize(
    "command",
    [
        ("jobs", "run", "prompts.txt", "--model", "test/echo"),
        ("arq", "worker.Settings", "--burst"),
        ("worker", "orphans"),
    ],
)


@needing_the_api
async def test_a_command_that_needs_the_api_names_the_variable(
    cli: Any, variable: str, command: tuple[str, ...], tmp_path: Path, redis: Redis
) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\n")
    answer = cli(*command[1:], module=command[0])
    assert answer.code == 2
    assert answer.err.removeprefix("Error: ").startswith(variable)
    assert len(answer.err.splitlines()) == 1
    assert "secret" not in answer.err
    assert await redis.keys("*") == []
    assert not (tmp_path / "outputs").exists()


@of_python_itself
@needing_the_api
@pytest.mark.usefixtures("every_variable")
async def test_what_it_imports_does_not_stumble_over_the_variables_before(
    cli: Any, command: tuple[str, ...], tmp_path: Path, redis: Redis
) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\n")
    answer = cli(*command[1:], module=command[0])
    assert answer.code == 2
    assert answer.err.removeprefix("Error: ").startswith(tuple(WRONG))
    assert len(answer.err.splitlines()) == 1
    assert await redis.keys("*") == []


async def test_the_doctor_names_it_too_and_looks_at_the_rest(cli: Any, variable: str) -> None:
    answer = cli("doctor", module="worker")
    assert answer.code == 1
    assert f"failure  network     {variable}" in answer.out
    assert "ok       redis" in answer.out
    assert "Traceback" not in answer.err
    assert "secret" not in answer.out


def test_commands_that_need_no_api_do_not_mind(cli: Any, variable: str, tmp_path: Path) -> None:
    assert variable
    (tmp_path / "prompts.txt").write_text("a fox\n")
    assert cli("enqueue", "prompts.txt", "--model", "test/echo", "--no-model-check").code == 0
    assert cli("status").code == 0


@of_python_itself
@pytest.mark.usefixtures("every_variable")
def test_neither_does_what_they_import(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\n")
    assert cli("enqueue", "prompts.txt", "--model", "test/echo", "--no-model-check").code == 0
    assert cli("status").code == 0
