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


of_python_itself = pytest.mark.parametrize("launch", [start_python], ids=["python"])
"""What Python imports may read these variables, too."""


@pytest.fixture(params=WRONG)
def variable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in WRONG:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(request.param, WRONG[request.param])
    return str(request.param)


@of_python_itself
@pytest.mark.parametrize(
    "command",
    [
        ("jobs", "run", "prompts.txt", "--model", "test/echo"),
        ("arq", "worker.Settings", "--burst"),
        ("worker", "orphans"),
    ],
)
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


async def test_the_doctor_names_it_too_and_looks_at_the_rest(cli: Any, variable: str) -> None:
    answer = cli("doctor", module="worker")
    assert answer.code == 1
    assert f"failure  network     {variable}" in answer.out
    assert "ok       redis" in answer.out
    assert "Traceback" not in answer.err
    assert "secret" not in answer.out


@of_python_itself
def test_commands_that_need_no_api_do_not_mind(cli: Any, variable: str, tmp_path: Path) -> None:
    assert variable
    (tmp_path / "prompts.txt").write_text("a fox\n")
    assert cli("enqueue", "prompts.txt", "--model", "test/echo", "--no-model-check").code == 0
    assert cli("status").code == 0
