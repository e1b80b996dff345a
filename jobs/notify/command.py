"""Commands: a program of the user that is run for an event, with its facts in the environment and on standard input."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.notify.event import Event
from jobs.notify.receiver import DELIVERED, Outcome, Receiver
from jobs.text import printable

TRY_AGAIN = 75
"""The exit code EX_TEMPFAIL: after any other the command is not run again for the event."""

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

KEPT_OUTPUT, LOGGED_LINES = 8192, 20

_FACTS = (
    "state", "total", "succeeded", "failed", "canceled", "cost", "seconds", "folder", "gallery", "next", "reason",
    "schedule",
)  # fmt: skip
"""Facts of an event that the environment has, as BATCH_EVENT_…; standard input has all."""

logger = logging.getLogger(__name__)


def _why_not_found(program: str, path: str) -> str:
    if Path(program).is_file():
        return f"{program} is not executable: chmod +x {program}"
    return f"there is no program {program!r} on the PATH of this worker, which is {path}"


async def run_command(receiver: Receiver, event: Event, environment: Mapping[str, str]) -> Outcome:
    """Run a receiver's command once and log its output; it is killed after its time, or when this is cancelled."""
    words = ["/bin/sh", "-c", receiver.target] if receiver.shell else shlex.split(receiver.target)
    if not receiver.shell and shutil.which(words[0], path=environment.get("PATH")) is None:
        return Outcome(_why_not_found(words[0], environment.get("PATH", "")), final=True)
    code, output = await run_process(
        words, {**environment, **variables(event)}, json.dumps(event.payload()).encode(), receiver.timeout
    )
    for line in output.splitlines()[-LOGGED_LINES:]:
        logger.info("%s: %s", receiver.name, line)
    if code == 0:
        return DELIVERED
    if code is None:
        return Outcome(f"it took longer than {receiver.timeout:g} s and was killed", final=True)
    last = output.splitlines()[-1:]
    return Outcome(": ".join([f"exit code {code}", *last])[:400], final=code != TRY_AGAIN)


def variables(event: Event) -> dict[str, str]:
    """The facts of an event as variables of the environment."""
    facts = {f"BATCH_EVENT_{name.upper()}": _shown(event.data[name]) for name in _FACTS if name in event.data}
    return {
        "BATCH_NAME": event.batch,
        "BATCH_EVENT": event.name,
        "BATCH_EVENT_ID": event.message_id,
        "BATCH_EVENT_TITLE": event.subject,
        "BATCH_EVENT_TEXT": event.text,
        **{name: value.replace("\0", "") for name, value in facts.items()},
    }


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


async def run_process(
    words: Sequence[str], environment: Mapping[str, str], stdin: bytes, seconds: float
) -> tuple[int | None, str]:
    """Run a program with this input; returns its exit code, None when it was killed, and the end of its output.

    Input and output are files: a program that reads nothing, or leaves a child behind, is not waited for.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(stdin)
        given.seek(0)
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=given, stdout=output, stderr=output, env=dict(environment), start_new_session=True
            )
        except OSError as error:
            return 127, f"it cannot be started: {error.strerror or error}"
        code = await _wait(process, seconds)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(size - KEPT_OUTPUT, 0))
        return code, printable(output.read().decode("utf-8", "replace"))


async def _wait(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await process.wait()
        return None
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the program and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
