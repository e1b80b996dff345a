"""The terminal's window while a batch is followed: its title, its progress where it shows one, and its bell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Self

import typer

from jobs.errors import BatchError
from jobs.operations.report import done, is_finished, shown_state
from jobs.text import printable
from jobs.wire import Status

if TYPE_CHECKING:
    from rich.console import Console

BELL = "\a"
SAVE_TITLE, RESTORE_TITLE = "\x1b[22;2t", "\x1b[23;2t"
"""xterm's stack of titles: where there is none, the last title stays."""

NO_PROGRESS = "\x1b]9;4;0;0\x1b\\"
GOES_ON, HAS_PROBLEM = 1, 4
"""States of OSC 9;4: blue or green, and yellow; https://conemu.github.io/en/AnsiEscapeCodes.html#ConEmu_specific_OSC"""

_FROM_VERSION = {"KONSOLE_VERSION": (26_04_00,), "PTYXIS_VERSION": (48,), "VTE_VERSION": (80_00,)}
"""Variables of terminals that show progress, and since which version."""

_PROGRAMS = {"WezTerm": (0,), "ghostty": (1, 2), "iTerm.app": (3, 6, 6)}
"""The same by TERM_PROGRAM; earlier ones took OSC 9 for the text of a notification."""


def has_title(environment: Mapping[str, str]) -> bool:
    """Whether a title may be set: never under CI, whose terminals only record what is written."""
    return not environment.get("CI") and environment.get("TERM", "dumb") not in ("dumb", "linux", "unknown")


def has_progress(environment: Mapping[str, str]) -> bool:
    """Whether the terminal is known to show progress by OSC 9;4; others may show the sequence as a message."""
    if not has_title(environment) or environment.get("TMUX") or environment.get("STY"):
        return False
    if environment.get("WT_SESSION") or environment.get("ConEmuANSI") == "ON":
        return True
    if least := _PROGRAMS.get(environment.get("TERM_PROGRAM", "")):
        return _version(environment.get("TERM_PROGRAM_VERSION", "")) >= least
    return any(_version(environment.get(name, "")) >= least for name, least in _FROM_VERSION.items())


def _version(text: str) -> tuple[int, ...]:
    """`3.6.6` as numbers; () when there is none."""
    numbers = text.partition("-")[0].partition("+")[0].split(".")
    return tuple(int(number) for number in numbers) if all(number.isdecimal() for number in numbers) else ()


class Window(AbstractContextManager["Window", None]):
    """Shows the newest status of a batch in the terminal's title and taskbar, until the block ends or is stopped."""

    def __init__(self, console: Console, environment: Mapping[str, str] | None = None) -> None:
        environment = {**os.environ} if environment is None else environment
        self._file = console.file
        self._title, self._progress = has_title(environment), has_progress(environment)
        self._shown = ""

    def __enter__(self) -> Self:
        """Save the title."""
        self._write(SAVE_TITLE if self._title else "")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the window as it was."""
        with suppress(OSError, ValueError):  # the terminal may be gone
            self._write((NO_PROGRESS if self._progress else "") + (RESTORE_TITLE if self._title else ""))

    def show(self, status: Status) -> None:
        """Show the newest status."""
        title = f"\x1b]2;{printable(title_of(status))}\x1b\\" if self._title else ""
        progress = progress_of(status) if self._progress else ""
        if title + progress != self._shown:
            self._shown = title + progress
            self._write(self._shown)

    def _write(self, sequence: str) -> None:
        if sequence:
            self._file.write(sequence)
            self._file.flush()


def title_of(status: Status) -> str:
    """A status in the few words of a title: what changes comes first, as titles are cut."""
    state = shown_state(status)
    failed = f", {status.failed} failed" if status.failed else ""
    return f"{done(status)}/{status.total} {status.batch}{failed}" + ("" if state == "running" else f" ({state})")


def progress_of(status: Status) -> str:
    """A status as OSC 9;4."""
    is_well = is_finished(status) or shown_state(status) in ("queued", "running")
    percent = done(status) * 100 // max(status.total, 1)
    return f"\x1b]9;4;{GOES_ON if is_well and not status.stuck else HAS_PROBLEM};{percent}\x1b\\"


@contextmanager
def ringing(*, wanted: bool) -> Iterator[None]:
    """Ring the terminal's bell at the end of the block, also when it fails, but not when it is stopped."""
    try:
        yield
    except (BatchError, typer.Exit):
        ring(wanted=wanted)
        raise
    ring(wanted=wanted)


def ring(*, wanted: bool = True) -> None:
    """Ring on standard error if it is a terminal, as standard output may be JSON; else on standard output."""
    terminal = next((stream for stream in (sys.stderr, sys.stdout) if stream.isatty()), None)
    if wanted and terminal:
        terminal.write(BELL)
        terminal.flush()
