"""What commands load before they do anything: a budget of modules, as times differ from machine to machine."""

from __future__ import annotations

import pytest
from typer.main import get_command

from jobs.cli.app import JobsCommands, app
from tests.imports import loaded_by

HEAVY = {"aiofiles", "aiohttp", "arq", "asyncio", "httpx", "jinja2", "pydantic", "redis", "rich", "worker"}
HELP = """
import sys
from jobs.cli.app import main
sys.argv = ["jobs", "--help"]
try:
    main()
except SystemExit:
    pass
"""
STATUS = "import jobs.cli.app, jobs.cli.commands.status, jobs.operations.operations"
NOTHING_ENQUEUED = HELP.replace("import sys", "import os, sys, tempfile\nos.chdir(tempfile.mkdtemp())").replace(
    "--help", "status"
)


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by(HELP)
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_status_loads_what_it_reads_with() -> None:
    assert loaded_by(STATUS) & HEAVY <= {"arq", "asyncio", "pydantic", "redis"}


def test_status_loads_no_redis_where_nothing_was_enqueued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    loaded = loaded_by(NOTHING_ENQUEUED)
    assert "jobs.cli.commands.status" in loaded
    assert loaded & HEAVY <= {"asyncio", "pydantic"}


@pytest.mark.parametrize("name", JobsCommands.lazy)
def test_the_help_line_of_a_command_is_its_own(name: str) -> None:
    lazy = get_command(app).commands[name]  # type: ignore[attr-defined]  # it is a group
    command = lazy.load()
    assert command.name == name
    assert command.get_short_help_str(200) == lazy.get_short_help_str(200) == JobsCommands.lazy[name][1]
    assert (command.help or "").partition("\n")[0] == lazy.help
