from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import Config
from jobs.notify.command import run_command, variables
from jobs.notify.event import Event
from jobs.notify.receiver import DELIVERED, Receiver
from jobs.notify.services import LEAST_MASKED, masked

EVENT = Event(
    id="finished:b1:0:3", name="finished", at=1.5, title="night is finished", lines=["a", "b"], batch="night",
    data={"total": 3, "cost": None, "folder": "/outputs/night", "reasons": [{"kind": "internal"}]},
)  # fmt: skip


def a_command(program: str, **facts: Any) -> Receiver:
    return replace(Receiver("hook", "command", f'{sys.executable} -c "{program}"', timeout=30.0), **facts)


async def test_facts_are_in_the_environment_and_on_standard_input(tmp_path: Path) -> None:
    program = "import os, sys, json; open('got', 'w').write(json.dumps([dict(os.environ), json.load(sys.stdin)]))"
    assert await run_command(a_command(program), EVENT, {"PATH": "/bin", "BATCH_LEASE": "9"}) == DELIVERED
    environment, payload = json.loads((tmp_path / "got").read_text())
    assert payload == EVENT.payload()
    assert environment.items() >= {
        "BATCH_NAME": "night", "BATCH_EVENT": "finished", "BATCH_EVENT_ID": EVENT.message_id, "BATCH_EVENT_TOTAL": "3",
        "BATCH_EVENT_COST": "", "BATCH_EVENT_FOLDER": "/outputs/night", "BATCH_EVENT_TEXT": "a\nb", "BATCH_LEASE": "9",
    }.items()  # fmt: skip


def test_a_command_may_run_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dict.fromkeys(
        ("state", "total", "succeeded", "failed", "canceled", "cost", "seconds", "folder", "gallery", "next", "reason",
         "schedule"), "x"
    )  # fmt: skip
    for name, value in variables(EVENT.model_copy(update={"data": data})).items():
        monkeypatch.setenv(name, value)
    Config.load()  # no variable is taken for a misspelt setting


@pytest.mark.parametrize(
    ("program", "why", "final"),
    [
        ("import sys; print('no mail'); sys.exit(3)", "exit code 3: no mail", True),
        ("import sys; sys.exit(75)", "exit code 75", False),
    ],
)
async def test_a_failure_is_final_unless_the_command_asks_for_another_try(
    program: str, why: str, *, final: bool
) -> None:
    outcome = await run_command(a_command(program), EVENT, {})
    assert (outcome.why, outcome.final) == (why, final)


async def test_a_program_that_is_not_on_the_path_is_named_with_the_path() -> None:
    outcome = await run_command(Receiver("hook", "command", "notify-it now"), EVENT, {"PATH": "/usr/bin:/bin"})
    assert outcome.why == "there is no program 'notify-it' on the PATH of this worker, which is /usr/bin:/bin"
    assert outcome.final


async def test_only_a_shell_expands_and_pipes(tmp_path: Path) -> None:
    shell = Receiver("hook", "command", "cat | wc -c > count; echo $BATCH_NAME > name", shell=True)
    assert await run_command(shell, EVENT, {"PATH": "/usr/bin:/bin"}) == DELIVERED
    assert int((tmp_path / "count").read_text()) == len(json.dumps(EVENT.payload()))
    assert (tmp_path / "name").read_text() == "night\n"
    plain = Receiver("hook", "command", "touch '$BATCH_NAME; touch x'")
    assert await run_command(plain, EVENT, {"PATH": "/usr/bin:/bin"}) == DELIVERED
    assert (tmp_path / "$BATCH_NAME; touch x").exists()


async def test_output_is_logged_without_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jobs.notify"):
        await run_command(a_command("print('sent ' + chr(27) + '[31m'); print('twice')"), EVENT, {})
    assert [record.getMessage() for record in caplog.records] == ["hook: sent �[31m", "hook: twice"]


async def test_a_command_that_takes_too_long_is_killed_with_its_children() -> None:
    began = time.monotonic()
    shell = Receiver("hook", "command", "sleep 300 & sleep 300", shell=True, timeout=0.2)
    outcome = await run_command(shell, EVENT, {"PATH": "/usr/bin:/bin"})
    assert outcome.why == "it took longer than 0.2 s and was killed"
    assert time.monotonic() - began < 100


async def test_a_child_that_keeps_the_output_open_is_not_waited_for() -> None:
    shell = Receiver("hook", "command", "sleep 30 & echo done", shell=True, timeout=25)
    assert await run_command(shell, EVENT, {"PATH": "/usr/bin:/bin"}) == DELIVERED


PARTS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=LEAST_MASKED, max_size=12)


@given(PARTS, PARTS)
def test_no_secret_part_of_an_address_is_in_what_apprise_says(user: str, password: str) -> None:
    address = f"mailtos://{quote(user, safe='')}:{quote(password, safe='')}@mail.example.com/"
    said = masked(f"{address} failed:\n{password}\n{user}\n{quote(password, safe='')}", address)
    assert not {user, password, quote(password, safe="")} & set(said.splitlines())


def test_what_apprise_says_is_shown_without_the_parts_of_an_address() -> None:
    said = "Failed to send to user:s3cret@mail.example.com (slack://T0K3N/B)"
    assert masked(said, "mailtos://user:s3cret@mail.example.com/?to=me") == "Failed to send to …:…@… (slack://…"
