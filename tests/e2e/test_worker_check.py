"""`python -m worker check`: about the processes of this host and directory, not about the account."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def check(cli: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: cli("check", *arguments, module="worker")


@pytest.fixture
def sign(tmp_path: Path) -> Callable[[Any], Path | None]:
    """The file of a worker that has one."""
    return lambda worker: next(tmp_path.glob(f"replicate-batch-workers-*/*-{worker.process.pid}"), None)


def make_old(file: Path | None) -> None:
    assert file
    os.utime(file, (0, 0))


async def test_each_worker_is_told_from_the_others(
    worker_process: Callable[..., Any],
    check: Callable[..., Any],
    sign: Callable[[Any], Path | None],
    eventually: Callable[..., Any],
) -> None:
    assert check().code == 1
    first, second, third = (worker_process() for _ in range(3))
    await eventually(lambda: all(map(sign, (first, second, third))))
    answer = check()
    assert (answer.code, answer.out.count("alive")) == (0, 3)

    first.stop()
    make_old(sign(first))
    answer = check()
    assert answer.code == 1
    assert f"worker {first.process.pid}: silent" in answer.out
    assert check("--pid", str(first.process.pid)).code == 1
    assert check("--pid", str(second.process.pid)).code == 0

    first.kill()
    assert check().code == 0, "a worker that was killed is none"
    assert sign(first) is None
    second.terminate()
    assert second.wait() == 0
    assert check().code == 0, "the other one's end is its own"
    assert check("--pid", str(second.process.pid)).code == 1


async def test_a_worker_that_waits_for_redis_is_alive(
    worker_process: Callable[..., Any],
    check: Callable[..., Any],
    sign: Callable[[Any], Path | None],
    eventually: Callable[..., Any],
    tmp_path: Path,
) -> None:
    worker = worker_process(redis_url=None, redis_dir=tmp_path / "r")
    await eventually(lambda: sign(worker))
    os.kill(int((tmp_path / "r" / "valkey.pid").read_text()), signal.SIGSTOP)  # it accepts, and answers nothing
    try:
        make_old(sign(worker))
        await eventually(lambda: check().code == 0)
    finally:
        worker.kill()  # it would start the server again
        os.kill(int((tmp_path / "r" / "valkey.pid").read_text()), signal.SIGKILL)


async def test_a_sign_that_was_cleaned_away_comes_back_and_goes_with_the_worker(
    worker_process: Callable[..., Any], sign: Callable[[Any], Path | None], eventually: Callable[..., Any]
) -> None:
    worker = worker_process()
    file = await eventually(lambda: sign(worker))
    file.unlink()
    file.parent.rmdir()
    await eventually(lambda: sign(worker))
    worker.terminate()
    assert worker.wait() == 0
    assert not file.parent.exists()
