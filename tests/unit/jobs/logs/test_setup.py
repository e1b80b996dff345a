from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from jobs.config import Config
from jobs.environment import wants_color
from jobs.errors import ConfigError
from jobs.logs.setup import Repeats
from tests.conftest import without_settings

SCRIPT = """
import logging.config, sys, warnings
from arq.logs import default_log_config
from jobs.config import Config
from jobs.logs.setup import set_up_logs
logging.config.dictConfig(default_log_config(verbose=False))
set_up_logs(Config())
logging.getLogger("worker.lifecycle").info("ours")
logging.getLogger("worker.lifecycle").warning("wrong")
logging.getLogger("arq.connections").warning("arq's")
logging.getLogger("arq.worker").info("arq's job lines")
logging.getLogger("uvicorn.error").warning("uvicorn's")
logging.getLogger("aiohttp.client").info("not worth a line")
warnings.warn("beware")
raise ValueError("at the end")
"""


def run(**settings: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**without_settings(), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_all_that_is_logged_is_json() -> None:
    lines: list[Any] = [json.loads(line) for line in run(BATCH_LOG_FORMAT="JSON")]
    said = [(line["level"], line["message"]) for line in lines]
    assert said[:4] == [("info", "ours"), ("warning", "wrong"), ("warning", "arq's"), ("warning", "uvicorn's")]
    assert "UserWarning: beware" in said[4][1]
    assert said[5:] == [("critical", "uncaught ValueError")]
    assert lines[5]["exception"].endswith("ValueError: at the end")


def test_text_is_the_default_and_the_level_turns_it_down() -> None:
    lines = run(BATCH_LOG_LEVEL="warning")
    assert [line.partition(": ")[2] for line in lines[:3]] == ["wrong", "arq's", "uvicorn's"]
    assert not any("\x1b" in line for line in lines)


def test_a_terminal_gets_colors() -> None:
    ours, theirs = pty.openpty()
    env = {**without_settings(), "TERM": "xterm", "NO_COLOR": ""}
    subprocess.run([sys.executable, "-c", SCRIPT], env=env, stderr=theirs, check=False)
    os.close(theirs)
    assert b"\x1b[33mWARNING\x1b[0m" in os.read(ours, 10_000)
    os.close(ours)


def test_what_a_library_repeats_is_logged_once_a_minute() -> None:
    repeats, passed = Repeats(), []
    for name, message, at in [
        ("opentelemetry.exporter", "Transient error %s", 0.0),
        ("opentelemetry.exporter", "Transient error %s", 1.0),
        ("opentelemetry.exporter", "another", 2.0),
        ("aiohttp.client", "Transient error %s", 3.0),
        ("worker.limits.request_gate", "! ours", 4.0),
        ("worker.limits.request_gate", "! ours", 5.0),
        ("opentelemetry.exporter", "Transient error %s", 59.0),
        ("opentelemetry.exporter", "Transient error %s", 61.0),
        ("opentelemetry.exporter", "Transient error %s", 62.0),
    ]:
        record = logging.getLogger(name).makeRecord(name, logging.WARNING, "", 1, message, (at,), None)
        record.created = at
        if repeats.filter(record):
            passed.append(at)
    assert passed == [0.0, 2.0, 3.0, 4.0, 5.0, 61.0]


@pytest.mark.parametrize(
    ("environment", "is_terminal", "color"),
    [
        ({"TERM": "xterm"}, True, True),
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_who_wants_color(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    is_terminal: bool,  # noqa: FBT001
    color: bool,  # noqa: FBT001
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_color(is_terminal=is_terminal) is color


@pytest.mark.parametrize(("name", "value"), [("BATCH_LOG_FORMAT", "xml"), ("BATCH_LOG_LEVEL", "loud")])
def test_a_wrong_setting_is_said(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}.*{value}"):
        Config.load()
