from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import StorageError
from simulator.checksums import crc32c
from worker.outputs import disk
from worker.outputs import file_writer as stream
from worker.outputs.checksum import Algorithm, Checksum
from worker.outputs.file_writer import SMALL, WRITE_SIZE
from worker.outputs.media_types import HEAD_SIZE
from worker.outputs.staging import Storage


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    (tmp_path / "batch").mkdir()
    return tmp_path / "batch"


@pytest.fixture(params=[True, False], ids=["fsync", "no fsync"])
def storage(request: pytest.FixtureRequest) -> Storage:
    return Storage(fsync=request.param)


def checksum(algorithm: Algorithm, content: bytes) -> Checksum:
    """As the file host computes it."""
    digest = crc32c(content).to_bytes(4) if algorithm == "crc32c" else hashlib.md5(content).digest()
    return Checksum(algorithm, digest)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [WRITE_SIZE], [65536] * 50, [WRITE_SIZE - 1, 2], [5_000_001]])
async def test_a_stream_is_on_disk_with_its_size_and_checksum(storage: Storage, batch: Path, sizes: list[int]) -> None:
    chunks = [os.urandom(size) for size in sizes]
    content = b"".join(chunks)
    async with storage.writer(batch / ".saving" / "a.1", "output_0") as writer:
        for chunk in chunks:
            await writer.write(chunk)
        assert writer.bytes == len(content)
        assert writer.head == content[:HEAD_SIZE]
        written = await writer.finish(".bin")
    assert written
    assert (written.path, written.bytes) == (batch / ".saving/a.1/output_0.bin", len(content))
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert files(batch) == {".saving/a.1/output_0.bin": content}


@given(st.lists(st.binary() | st.none(), max_size=30))
def test_a_restart_forgets_what_came_before(steps: list[bytes | None]) -> None:
    """None restarts; writes of a few bytes go to the disk at once here."""
    last = max((place for place, step in enumerate(steps) if step is None), default=-1)
    expected = b"".join(step or b"" for step in steps[last + 1 :])

    async def run(directory: Path) -> None:
        async with Storage(fsync=False).writer(directory / ".saving" / "x", "output") as writer:
            for step in steps:
                await (writer.restart() if step is None else writer.write(step))
            written = await writer.finish(".txt")
        assert written
        assert written.path.read_bytes() == expected
        assert (written.bytes, written.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.setattr(stream, "WRITE_SIZE", 50)
        asyncio.run(run(Path(directory)))


@given(st.lists(st.binary(max_size=20), max_size=200), st.integers(1, 100))
def test_every_piece_is_written_however_little_the_disk_takes_at_once(pieces: list[bytes], most: int) -> None:
    def some(descriptor: int, buffers: list[memoryview]) -> int:
        assert len(buffers) <= disk.MOST_PIECES
        return os.write(descriptor, b"".join(buffers)[:most])

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.setattr(os, "writev", some)
        path = Path(directory) / "file"
        disk.write_file(path, None, pieces, fsync=False)
        assert path.read_bytes() == b"".join(pieces)


@pytest.mark.parametrize("size", [10, WRITE_SIZE + 10])
@pytest.mark.parametrize("algorithm", ["md5", "crc32c"])
async def test_a_wrong_checksum_gives_no_file_but_another_chance(
    storage: Storage, batch: Path, size: int, algorithm: Algorithm
) -> None:
    content = os.urandom(size)
    right = checksum(algorithm, content)
    async with storage.writer(batch / ".saving" / "a.1", "output") as writer:
        await writer.restart(right)
        await writer.write(content[::-1])
        assert await writer.finish(".png") is None
        assert ".saving/a.1/output.png" not in files(batch)
        await writer.restart(right)
        await writer.write(content)
        assert await writer.finish(".png")
    assert files(batch) == {".saving/a.1/output.png": content}


@pytest.mark.parametrize("size", [10, WRITE_SIZE + 10])
async def test_what_has_another_checksum_can_be_finished_without(storage: Storage, batch: Path, size: int) -> None:
    content = os.urandom(size)
    async with storage.writer(batch / ".saving" / "a.1", "output") as writer:
        await writer.restart(checksum("md5", b"other"))
        await writer.write(content)
        assert await writer.finish(".png") is None
        assert (written := await writer.finish(".png", check=False))
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert files(batch) == {".saving/a.1/output.png": content}


async def test_what_is_left_unfinished_has_no_final_name(storage: Storage, batch: Path) -> None:
    async with storage.writer(batch / ".saving" / "a.1", "output") as writer:
        await writer.write(bytes(WRITE_SIZE))
    assert list(files(batch)) == [".saving/a.1/output.part"]


async def test_commit_is_one_rename_with_the_record_in_it(storage: Storage, batch: Path) -> None:
    saving, target = batch / ".saving" / "a.1", batch / "a"
    await storage.write_bytes(saving / "output.txt", b"text")
    assert await storage.commit(saving, target, b"{}")
    assert files(batch) == {"a/output.txt": b"text", "a/prediction.json": b"{}"}
    assert not saving.exists()


async def test_small_files_are_written_by_the_commit(storage: Storage, batch: Path) -> None:
    saving = batch / ".saving" / "a.1"
    for content in (b"first", b"small"):  # the second in place of the first
        async with storage.writer(saving, "output_0", hold=True) as writer:
            await writer.restart(checksum("md5", content))
            await writer.write(content[:1])
            await writer.write(content[1:])
            assert (written := await writer.finish(".bin"))
        assert (written.path, written.sha256) == (saving / "output_0.bin", hashlib.sha256(content).hexdigest())
    await storage.write_bytes(saving / "output.txt", b"text", hold=True)
    assert files(batch) == {}
    async with storage.writer(saving, "output_1", hold=True) as writer:
        await writer.write(bytes(SMALL + 1))
        assert await writer.finish(".bin")
    assert list(files(batch)) == [".saving/a.1/output_1.bin"]
    assert await storage.commit(saving, batch / "a", b"{}")
    assert files(batch) == {
        "a/output_0.bin": b"small",
        "a/output_1.bin": bytes(SMALL + 1),
        "a/output.txt": b"text",
        "a/prediction.json": b"{}",
    }


async def test_a_held_file_with_another_checksum_is_none(storage: Storage, batch: Path) -> None:
    async with storage.writer(batch / ".saving" / "a.1", "output", hold=True) as writer:
        await writer.restart(checksum("crc32c", b"right"))
        await writer.write(b"wrong")
        assert await writer.finish(".png") is None
        await writer.restart(checksum("crc32c", b"right"))
        await writer.write(b"right")
        assert await writer.finish(".png")
    assert await storage.commit(batch / ".saving" / "a.1", batch / "a", b"{}")
    assert files(batch) == {"a/output.png": b"right", "a/prediction.json": b"{}"}


@pytest.mark.parametrize("end", ["committed", "overtaken", "failed", "discarded"])
async def test_only_so_much_is_held_and_none_after_the_end(
    storage: Storage, batch: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.outputs.file_writer.MOST", 10)
    saving, target = batch / ".saving" / "a.1", batch / "a"
    await storage.write_bytes(saving / "output_0.txt", b"12345678", hold=True)
    await storage.write_bytes(saving / "output_1.txt", b"123", hold=True)
    assert files(batch) == {".saving/a.1/output_1.txt": b"123"}
    if end == "overtaken":
        target.mkdir()
        (target / "prediction.json").write_bytes(b"theirs")
    if end == "failed":
        target.write_bytes(b"no folder")
    if end == "discarded":
        await storage.discard(saving)
    else:
        with suppress(StorageError):
            assert await storage.commit(saving, target, b"{}") is (end == "committed")
    await storage.write_bytes(batch / ".saving" / "b.1" / "output.txt", b"1234567890", hold=True)
    assert ".saving/b.1/output.txt" not in files(batch)


async def test_a_prompt_without_files_is_committed_too(storage: Storage, batch: Path) -> None:
    assert await storage.commit(batch / ".saving" / "a.1", batch / "a", b"{}")
    assert files(batch) == {"a/prediction.json": b"{}"}


async def test_an_empty_target_is_taken_over(storage: Storage, batch: Path) -> None:
    (batch / "a").mkdir()
    assert await storage.commit(batch / ".saving" / "a.1", batch / "a", b"{}")


async def test_who_commits_second_changes_nothing(storage: Storage, batch: Path) -> None:
    first, second = batch / ".saving" / "a.1", batch / ".saving" / "a.2"
    assert await storage.commit(first, batch / "a", b"first")
    assert not await storage.commit(second, batch / "a", b"second")
    assert files(batch) == {"a/prediction.json": b"first", ".saving/a.2/prediction.json": b"second"}
    await storage.discard(second)
    await storage.discard(second)
    assert files(batch) == {"a/prediction.json": b"first"}


async def test_of_many_at_once_one_commits(storage: Storage, batch: Path) -> None:
    attempts = (storage.commit(batch / ".saving" / f"a.{n}", batch / "a", b"%d" % n) for n in range(20))
    done = await asyncio.gather(*attempts)
    assert done.count(True) == 1
    assert (batch / "a" / "prediction.json").read_bytes() == b"%d" % done.index(True)


async def test_a_batch_folder_that_is_gone_is_not_made_anew(storage: Storage, tmp_path: Path) -> None:
    saving = tmp_path / "gone" / ".saving" / "a.1"
    with pytest.raises(StorageError, match="is gone") as caught:
        await storage.write_bytes(saving / "output.txt", b"text")
    assert caught.value.path == tmp_path / "gone"
    with pytest.raises(StorageError, match="is gone"):
        await storage.commit(saving, tmp_path / "gone" / "a", b"{}")
    async with storage.writer(saving, "output") as writer:
        with pytest.raises(StorageError, match="is gone"):
            await writer.finish(".txt")
    await storage.discard(saving)
    assert not (tmp_path / "gone").exists()


def failing(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "is not writable"),
        (errno.EROFS, "is not writable"),
        (errno.EPERM, "is not writable"),
        (errno.ENOENT, "is gone"),
        (errno.EIO, "cannot be written: Input/output error"),
        (errno.ENOTDIR, "cannot be written"),
    ],
)
async def test_each_failure_of_the_disk_is_a_sentence_with_the_path(
    storage: Storage, batch: Path, number: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (disk, stream):
        monkeypatch.setattr(module, "write_all", failing(number))
    path = batch / ".saving" / "a.1" / "output.txt"
    with pytest.raises(StorageError, match=sentence) as caught:
        await storage.write_bytes(path, b"text")
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    async with storage.writer(path.parent, "output") as writer:
        with pytest.raises(StorageError, match=sentence):
            await writer.write(bytes(WRITE_SIZE))


async def test_a_target_that_is_a_file_is_an_error(storage: Storage, batch: Path) -> None:
    (batch / "a").write_text("not a folder")
    with pytest.raises(StorageError):
        await storage.commit(batch / ".saving" / "a.1", batch / "a", b"{}")


async def test_a_folder_that_cannot_be_deleted_is_an_error(
    storage: Storage, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.rmtree", failing(errno.EACCES))
    with pytest.raises(StorageError, match="is not writable"):
        await storage.discard(batch)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where every write finds a full disk")
async def test_a_full_disk_is_told(storage: Storage, batch: Path) -> None:
    (batch / ".saving" / "a.1").mkdir(parents=True)
    (batch / ".saving" / "a.1" / "output.part").symlink_to("/dev/full")
    async with storage.writer(batch / ".saving" / "a.1", "output") as writer:
        with pytest.raises(StorageError, match="the disk is full"):
            await writer.write(bytes(WRITE_SIZE))


@pytest.mark.parametrize("cancels", [1, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancel_waits_until_the_thread_is_off_the_file(
    storage: Storage,
    batch: Path,
    cancels: int,
    fails: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> None:
        started.set()
        go_on.wait(30)
        if fails:
            raise OSError(errno.EIO, "late")

    monkeypatch.setattr(disk, "write_all", slow)
    task = asyncio.create_task(storage.write_bytes(batch / ".saving" / "a.1" / "output.txt", b"text"))
    assert await asyncio.to_thread(started.wait, 30)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    done, _ = await asyncio.wait([task], timeout=0.01)
    assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("hold", [False, True], ids=["at once", "held"])
async def test_durability_costs_what_it_must_and_no_more(
    batch: Path,
    hold: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every file, the saving folder, and after the rename the batch's folder."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        link = Path(f"/proc/self/fd/{descriptor}")
        synced.append(str(link.readlink()) if link.exists() else "?")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for durable in (False, True):
        storage = Storage(fsync=durable)
        async with storage.writer(batch / ".saving" / "a.1", "output", hold=hold) as writer:
            await writer.write(b"x")
            await writer.finish(".png")
        await storage.commit(batch / ".saving" / "a.1", batch / f"a{durable}", b"{}")
        assert len(synced) == (4 if durable else 0)
    assert synced[-1] in (str(batch), "?")
