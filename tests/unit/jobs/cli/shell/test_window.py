from __future__ import annotations

import io
import os
import pty
import sys
from contextlib import suppress
from typing import Any

import pytest
import typer
from rich.console import Console

from jobs.cli.progress import screen_for
from jobs.cli.shell.window import BELL, Window, has_progress, has_title, progress_of, ring, ringing, title_of
from jobs.errors import BatchError
from tests.unit.jobs.cli.pictures import a_status

XTERM = {"TERM": "xterm-256color"}
WINDOWS = XTERM | {"WT_SESSION": "1"}
CLEARED = "\x1b]9;4;0;0\x1b\\"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"WT_SESSION": "5e2"}, True),
        ({"ConEmuANSI": "ON"}, True),
        ({"ConEmuANSI": "OFF"}, False),
        ({"TERM_PROGRAM": "WezTerm", "TERM_PROGRAM_VERSION": "20240203-110809-5046fc22"}, True),
        ({"TERM_PROGRAM": "ghostty", "TERM_PROGRAM_VERSION": "1.2.0"}, True),
        ({"TERM_PROGRAM": "ghostty", "TERM_PROGRAM_VERSION": "1.3.1-main+abc"}, True),
        ({"TERM_PROGRAM": "ghostty", "TERM_PROGRAM_VERSION": "1.1.3"}, False),
        ({"TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.6.6"}, True),
        ({"TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.5.14"}, False),
        ({"TERM_PROGRAM": "iTerm.app"}, False),
        ({"KONSOLE_VERSION": "260400"}, True),
        ({"KONSOLE_VERSION": "251203"}, False),
        ({"PTYXIS_VERSION": "48.0"}, True),
        ({"VTE_VERSION": "8001"}, True),
        ({"VTE_VERSION": "7600"}, False),
        ({"VTE_VERSION": "new"}, False),
        ({"WT_SESSION": "1", "TMUX": "/tmp/tmux"}, False),
        ({"WT_SESSION": "1", "STY": "1.pts"}, False),
        ({"WT_SESSION": "1", "CI": "true"}, False),
        ({"WT_SESSION": "1", "TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_progress_is_shown_where_it_is_known_to_be_understood(environment: dict[str, str], *, shown: bool) -> None:
    assert has_progress(XTERM | environment) is shown


@pytest.mark.parametrize(
    ("environment", "titled"),
    [(XTERM, True), (XTERM | {"CI": "1"}, False), ({"TERM": "linux"}, False), ({"TERM": "dumb"}, False), ({}, False)],
)
def test_a_title_needs_a_window(environment: dict[str, str], *, titled: bool) -> None:
    assert has_title(environment) is titled


@pytest.mark.parametrize(
    ("facts", "title", "progress"),
    [
        ({"succeeded": 3}, "3/10 prompts", "1;30"),
        ({"succeeded": 3, "failed": 2}, "5/10 prompts, 2 failed", "1;50"),
        ({"state": "paused"}, "0/10 prompts (paused)", "4;0"),
        ({"succeeded": 1, "workers": 0}, "1/10 prompts (waiting)", "4;10"),
        ({"succeeded": 10, "state": "finished", "finished_at": "2026-11-21T03:00:00.000Z"}, "10/10 prompts (finished)",
         "1;100"),
        ({"total": 0}, "0/0 prompts", "1;0"),
    ],
)  # fmt: skip
def test_a_status_in_a_title_and_as_progress(facts: dict[str, Any], title: str, progress: str) -> None:
    assert title_of(a_status(**facts)) == title
    assert progress_of(a_status(**facts)) == f"\x1b]9;4;{progress}\x1b\\"


def written(environment: dict[str, str], error: BaseException | None = None) -> str:
    out = io.StringIO()
    with suppress(BatchError, KeyboardInterrupt), Window(Console(file=out), environment) as window:
        for _ in range(2):
            window.show(a_status(succeeded=5))
        if error:
            raise error
    return out.getvalue()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), BatchError("no worker")])
def test_the_window_is_as_it_was_at_the_end(error: BaseException | None) -> None:
    shown = "\x1b]2;5/10 prompts\x1b\\\x1b]9;4;1;50\x1b\\"
    assert written(WINDOWS, error) == f"\x1b[22;2t{shown}{CLEARED}\x1b[23;2t"


def test_a_terminal_that_is_not_known_gets_its_title_only() -> None:
    assert written(XTERM) == "\x1b[22;2t\x1b]2;5/10 prompts\x1b\\\x1b[23;2t"


def test_nothing_is_written_under_ci() -> None:
    assert written(WINDOWS | {"CI": "true"}) == ""


def test_a_pipe_gets_no_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WINDOWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)
    out = io.StringIO()
    with screen_for(Console(file=out)) as screen:
        screen.show(a_status())
    assert "\x1b" not in out.getvalue()


def test_the_bell_rings_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as heard, os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        ring()
        monkeypatch.setattr(sys, "stdout", terminal)
        ring()
        ring(wanted=False)
        terminal.write(".")
        terminal.flush()
        rung = heard.read(10)
        rung += b"" if rung.endswith(b".") else heard.read(10)
        assert rung.decode() == f"{BELL}."


@pytest.mark.parametrize(
    ("error", "rung"), [(None, 1), (BatchError("no"), 1), (typer.Exit(1), 1), (KeyboardInterrupt(), 0)]
)
def test_the_bell_rings_at_the_end_unless_it_is_stopped(
    error: BaseException | None, rung: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with suppress(BatchError, KeyboardInterrupt, typer.Exit), ringing(wanted=True):
        if error:
            raise error
    assert terminal.getvalue().count(BELL) == rung
