"""The life of the worker that `run` starts, with small stand-in programs as real processes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.cli import run
from jobs.errors import BatchError
from jobs.printer import Printer

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(600)"
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEP}"
GRACEFUL = f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit('let go'))\n{SLEEP}"


def program(source: str, log: Path, **options: Any) -> AbstractAsyncContextManager[Process]:
    """The program in a worker's place."""
    return run.worker_process(Printer(), log, command=(sys.executable, "-c", source), **options)


async def test_the_block_ends_the_worker_gracefully(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    log = tmp_path / "log"
    async with program(GRACEFUL, log) as worker:
        await eventually(lambda: log.read_text() == "up\n")
    assert worker.returncode == 1
    assert log.read_text() == "up\nlet go\n"


async def test_the_log_is_kept_from_run_to_run(tmp_path: Path) -> None:
    for _ in range(2):
        async with program("print('a line')", tmp_path / "log") as worker:
            await worker.wait()
    assert (tmp_path / "log").read_text() == "a line\na line\n"


async def test_a_stubborn_worker_is_killed(
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    log = tmp_path / "log"
    async with program(STUBBORN, log, grace=0.05) as worker:
        await eventually(lambda: log.read_text() == "up\n")
    assert worker.returncode == -signal.SIGKILL


async def test_an_error_in_the_block_ends_the_worker_too(tmp_path: Path) -> None:
    with pytest.raises(BatchError):
        async with program(SLEEP, tmp_path / "log") as worker:
            raise BatchError("no more")
    assert not psutil.pid_exists(worker.pid)


async def test_the_worker_is_out_of_reach_of_ctrl_c(tmp_path: Path) -> None:
    async with program("import os; print(os.getpgrp() == os.getpid())", tmp_path / "log") as worker:
        await worker.wait()
    assert (tmp_path / "log").read_text() == "True\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_stopping_tells_how_to_go_on(
    number: signal.Signals,
    tmp_path: Path,
    nursery: Any,
    child_env: dict[str, str],
    eventually: Callable[..., Any],
) -> None:
    source = tmp_path / "program.py"
    source.write_text(
        "import asyncio\nfrom pathlib import Path\nfrom jobs.cli import run\nfrom jobs.printer import Printer\n"
        f"command = (run.sys.executable, '-c', {GRACEFUL!r})\n"
        "async def main():\n"
        "    async with run.worker_process(Printer(), Path('log'), command=command) as worker:\n"
        "        await worker.wait()\n"
        "asyncio.run(main())\n"
    )
    child = nursery.start(str(source), env=child_env)
    log = tmp_path / "log"
    await eventually(lambda: log.exists() and log.read_text() == "up\n")
    child.process.send_signal(number)
    assert child.wait() != 0
    assert log.read_text() == "up\nlet go\n"
    assert child.log().splitlines()[:2] == [
        "Stopping the worker …",
        "Stopped. The same command continues from here; Replicate keeps outputs for an hour.",
    ]
    assert ("KeyboardInterrupt" if number == signal.SIGINT else "CancelledError") in child.log()


async def test_an_ignored_hangup_stays_ignored(tmp_path: Path, nursery: Any, child_env: dict[str, str]) -> None:
    source = tmp_path / "program.py"
    source.write_text(
        "import asyncio, os, signal\nfrom pathlib import Path\nfrom jobs.cli import run\n"
        "from jobs.printer import Printer\n"
        f"command = (run.sys.executable, '-c', {GRACEFUL!r})\n"
        "async def main():\n"
        "    async with run.worker_process(Printer(), Path('log'), command=command):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "        await asyncio.sleep(0)\n"
        "        print('goes on')\n"
        "asyncio.run(main())\n"
    )
    child = nursery.start(str(source), env=child_env, within=("nohup",))
    assert child.wait() == 0
    assert child.log() == "goes on\n"


async def test_what_else_is_queued_is_left_to_others(tmp_path: Path) -> None:
    async with program(SLEEP, tmp_path / "log") as worker:
        await run.wait_for_exit(worker, Printer(), alone=False, patience=0.05)
        assert worker.returncode is None
    assert worker.returncode == -signal.SIGTERM


async def test_the_only_worker_goes_on_with_what_else_is_queued(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with program("import time; time.sleep(0.3)", tmp_path / "log") as worker:
        await run.wait_for_exit(worker, Printer(), alone=True, patience=0.01)
        assert worker.returncode == 0
    assert "other queued batches" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "exit_code"), [(0, 1), (1, 1), (2, 2), (3, 3), (-9, 1)])
async def test_a_worker_that_ended_too_early_is_explained(tmp_path: Path, code: int, exit_code: int) -> None:
    end = "import os; os.kill(os.getpid(), 9)" if code < 0 else f"raise SystemExit({code})"
    log = tmp_path / "log"
    async with program(f"print('x' * 10_000)\nprint('the reason', flush=True)\n{end}", log) as worker:
        await asyncio.wait_for(worker.wait(), 60)
        error = run.worker_exit_error(worker, log, "night")
    assert error.exit_code == exit_code
    assert f"(exit code {code})" in str(error)
    assert "the reason" in str(error)
    assert str(log) in str(error)
    assert len(str(error)) < 5_000
    assert "python -m jobs delete night --force" in str(error)
    assert "the reason" not in str(run.worker_exit_error(worker, None, "night"))
