from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from worker.heartbeat import SILENT, Heartbeat, heartbeat_folder, read_liveness


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


async def test_a_heartbeat_is_seen_until_it_is_stopped() -> None:
    heartbeat = Heartbeat()
    await heartbeat.stop()
    assert list(read_liveness()) == []
    await heartbeat.beat()
    (found,) = read_liveness()
    assert (found.pid, found.is_alive) == (os.getpid(), True)
    (file,) = heartbeat_folder().iterdir()
    os.utime(file, (file.stat().st_mtime - 2 * SILENT,) * 2)
    (found,) = read_liveness()
    assert not found.is_alive
    assert "silent" in str(found)
    await heartbeat.beat()
    assert next(read_liveness()).is_alive
    await heartbeat.stop()
    assert not heartbeat_folder().exists()


async def test_two_of_one_name_do_not_pass_for_each_other() -> None:
    """Containers that share a host name and /tmp."""
    first, second = Heartbeat(), Heartbeat()
    await first.beat()
    with pytest.raises(BlockingIOError):
        await second.beat()
    await first.stop()
    await second.beat()
    await second.stop()


def test_other_directories_have_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = heartbeat_folder()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert heartbeat_folder() != here


async def test_a_folder_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        await Heartbeat().beat()
