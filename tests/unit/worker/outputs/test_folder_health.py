"""The batches' folders: what hinders saving in them, whose turn it is to try, and what is swept."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder import folder as folder_module
from jobs.batch_folder.folder import Folder
from jobs.errors import LostFolder, StorageError
from worker.outputs.file_writer import FileWriter
from worker.outputs.folder_health import SWEPT, FolderHealth, is_of_one_folder, sweep, write_problem
from worker.outputs.staging import Storage


def no_pause() -> float:
    return 0.001


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make(Folder(tmp_path, "night"), "b1")


def make(folder: Folder, batch_id: str) -> Folder:
    folder.path.mkdir()
    folder.manifest.write_text(json.dumps({"id": batch_id}))
    return folder


def test_a_folder_is_known_by_its_id(folder: Folder, tmp_path: Path) -> None:
    assert write_problem(folder, "b1") is None
    assert "another batch's" in str(write_problem(folder, "b2"))
    folder.manifest.write_text("{")
    assert "cannot be read as a batch's" in str(write_problem(folder, "b1"))
    folder.manifest.unlink()
    assert "is gone" in str(write_problem(folder, "b1"))
    folder.path.rename(tmp_path / "elsewhere")
    reason = write_problem(folder, "b1")
    assert reason
    assert "the folder of 'night' is gone: put " in reason
    assert "python -m jobs delete night" in reason


def test_an_identity_is_read_once_until_it_is_another(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it is so young that a change may not show in its times, it is read each time."""
    reads: list[Any] = []
    load = json.load

    def count(file: Any) -> Any:
        reads.append(file)
        return load(file)

    monkeypatch.setattr(json, "load", count)
    for _ in range(3):
        folder.check("b1")
    assert len(reads) == 3
    monkeypatch.setattr(folder_module, "_SETTLED", -3600.0)
    for _ in range(3):
        folder.check("b1")
    assert len(reads) == 4
    other = make(Folder(tmp_path, "other"), "b2")
    other.manifest.rename(folder.manifest)
    for _ in range(3):
        with pytest.raises(LostFolder, match="another batch's"):
            folder.check("b1")
    assert len(reads) == 5


def test_a_folder_that_nobody_may_read_is_lost(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As chmod makes it for everybody but root, who may run the tests."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(LostFolder, match="cannot be read: Permission denied"):
        folder.check("b1")


async def test_nothing_is_written_into_another_batchs_folder(folder: Folder, tmp_path: Path) -> None:
    """Neither when the first file begins, nor when the folder is replaced before the commit."""
    storage = Storage(fsync=False, most_held=0)
    async with storage.staging(folder, "a", "b1") as a, storage.staging(folder, "b", "b1") as b:
        await a.write("output.txt", b"ours")
        folder.path.rename(tmp_path / "ours")
        theirs = make(folder, "b2")
        with pytest.raises(LostFolder):
            await a.commit(b"{}")
        with pytest.raises(LostFolder):
            await b.write("output.txt", b"ours")
        async with FileWriter(b, "output") as writer:
            with pytest.raises(LostFolder):
                await writer.finish(".txt")
    assert [path.name for path in theirs.path.rglob("*")] == ["batch.json"]


async def test_a_folder_that_is_moved_during_the_commit_takes_its_own(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts another batch's folder in its place after the look and before the rename."""
    original = os.rename

    def late(*arguments: Any, **descriptors: Any) -> None:
        original(folder.path, tmp_path / "ours")
        make(folder, "b2")
        original(*arguments, **descriptors)

    async with Storage(fsync=False).staging(folder, "a", "b1") as staging:
        await staging.write("output.txt", b"ours")
        monkeypatch.setattr("os.rename", late)
        assert await staging.commit(b"{}")
    assert (tmp_path / "ours" / "a" / "output.txt").read_bytes() == b"ours"
    assert [path.name for path in folder.path.rglob("*")] == ["batch.json"]


async def test_all_save_at_once_until_one_fails(tmp_path: Path) -> None:
    folders, trying, most = FolderHealth(no_pause), 0, list[int]()

    async def save() -> None:
        nonlocal trying
        async with folders.probe(tmp_path):
            trying += 1
            most.append(trying)
            await asyncio.sleep(0.001)
            trying -= 1

    await asyncio.gather(*(save() for _ in range(5)))
    assert max(most) == 5
    most.clear()
    folders.failed(tmp_path, "the disk is full")
    assert folders.disk_trouble() == "the disk is full"
    await asyncio.gather(*(save() for _ in range(5)))
    assert max(most) == 1
    most.clear()
    tasks = [asyncio.create_task(save()) for _ in range(5)]
    await asyncio.sleep(0)
    folders.succeeded(tmp_path)
    assert folders.disk_trouble() is None
    await asyncio.gather(*tasks)
    assert max(most) > 1, "who waited for a turn goes on with the others"


async def test_one_that_fails_alone_does_not_keep_the_turn(tmp_path: Path) -> None:
    folders, saved = FolderHealth(no_pause), list[int]()

    async def bad() -> None:
        while len(saved) < 20:
            async with folders.probe(tmp_path):
                await asyncio.sleep(0)
            folders.failed(tmp_path, "something is in my way")
            await asyncio.sleep(0)

    async def good(number: int) -> None:
        async with folders.probe(tmp_path):
            await asyncio.sleep(0)
        saved.append(number)
        folders.succeeded(tmp_path)

    async with asyncio.timeout(10):
        await asyncio.gather(bad(), *(good(number) for number in range(20)))


async def test_a_trouble_ends_with_the_last_that_has_it(tmp_path: Path) -> None:
    """Its batch is deleted, say: nobody would ever tell that it is over."""
    folders = FolderHealth(no_pause)
    with folders.saving(tmp_path):
        with folders.saving(tmp_path):
            folders.failed(tmp_path, "the disk is full")
        assert folders.disk_trouble()
    assert folders.disk_trouble() is None


async def test_a_folder_in_use_is_looked_after(folder: Folder, tmp_path: Path) -> None:
    folders = FolderHealth(no_pause)
    folder.path.rename(tmp_path / "elsewhere")
    with folders.using(folder, "b1"), folders.using(folder, "b1"):
        await folders.look()
        assert "is gone" in str(folders.own_trouble(folder.path))
        assert (list(folders.own_troubles()), folders.disk_trouble()) == ([folder.path], None)
        (tmp_path / "elsewhere").rename(folder.path)
        await folders.look()
        assert folders.own_trouble(folder.path) is None
        (tmp_path / "night").rename(tmp_path / "elsewhere")
    await folders.look()
    assert not folders.own_troubles()


def test_one_folders_trouble_is_not_the_disks(tmp_path: Path) -> None:
    folders = FolderHealth(no_pause)
    folders.failed(tmp_path / "a", "there is a file in the way", alone=True)
    assert folders.disk_trouble() is None
    assert [folders.own_trouble(tmp_path / name) for name in "ab"] == ["there is a file in the way", None]
    folders.failed(tmp_path / "a", "the disk is full")
    assert (folders.disk_trouble(), folders.own_troubles()) == ("the disk is full", {})


@pytest.mark.parametrize(
    ("cause", "alone"),
    [
        (OSError(errno.ENOSPC, "full"), False),
        (OSError(errno.EDQUOT, "full"), False),
        (OSError(errno.EROFS, "read-only"), False),
        (OSError(errno.EIO, "broken"), False),
        (OSError(errno.ENOTCONN, "the FUSE process is gone"), False),
        (OSError(errno.EACCES, "not yours"), True),
        (OSError(errno.ENOTDIR, "in the way"), True),
        (OSError(errno.EFBIG, "one file"), True),
        (ValueError("a record"), True),
        (None, True),
    ],
)
def test_what_the_system_says_tells_whose_trouble_it_is(cause: Exception | None, *, alone: bool) -> None:
    error = StorageError("it cannot be written", Path("outputs"))
    error.__cause__ = cause
    assert is_of_one_folder(error) is alone
    lost = LostFolder("it cannot be read", Path("outputs"))
    lost.__cause__ = cause
    assert is_of_one_folder(lost), "each folder is looked at by itself"


def test_leftovers_of_the_named_prompts_are_swept(folder: Folder) -> None:
    for name in ("a.0123", "a.b.0123", "a.b.4567", "c.0123"):
        (folder.path / ".saving" / name).mkdir(parents=True)
        (folder.path / ".saving" / name / "output.part").write_bytes(b"x")
    sweep(folder, {"a.b"}.__contains__)
    assert sorted(path.name for path in (folder.path / ".saving").iterdir()) == ["a.0123", "c.0123"]
    sweep(folder, {"a", "c"}.__contains__)
    sweep(folder, {"a", "c"}.__contains__)
    assert not (folder.path / ".saving").exists()


async def test_what_a_sweep_took_is_never_committed(folder: Folder) -> None:
    """By a run that stalled, and goes on after another worker swept up behind it."""
    async with Storage(fsync=False, most_held=0).staging(folder, "a", "b1") as staging:
        await staging.write("output_0.txt", b"ours")
        sweep(folder, {"a"}.__contains__)
        with pytest.raises(StorageError, match="is gone"):
            await staging.write("output_1.txt", b"ours")
        with pytest.raises(StorageError, match="is gone"):
            await staging.commit(b"{}")
    assert not folder.prompt("a").exists()
    assert not (folder.path / ".saving").exists()


async def test_a_sweep_goes_on_where_one_was_killed(folder: Folder) -> None:
    half_deleted = folder.path / ".saving" / f"a.1{SWEPT}"
    half_deleted.mkdir(parents=True)
    (half_deleted / "output.txt").write_bytes(b"x")
    sweep(folder, {"a"}.__contains__)
    assert not (folder.path / ".saving").exists()


async def test_one_slow_try_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    folders, over = FolderHealth(no_pause, probe_seconds=0.05), asyncio.Event()
    folders.failed(tmp_path, "the disk is full")

    async def slow() -> None:
        async with folders.probe(tmp_path):
            await over.wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    async with folders.probe(tmp_path):
        folders.succeeded(tmp_path)
    assert not task.done()
    over.set()
    await task
    async with folders.probe(tmp_path):
        assert folders.disk_trouble() is None
