from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.batch_folder.folder import Folder
from jobs.errors import StorageError
from simulator.file_host import crc32c
from worker.outputs import disk
from worker.outputs import file_writer as stream
from worker.outputs.file_response import Algorithm, Checksum
from worker.outputs.file_writer import WRITE_SIZE, FileWriter
from worker.outputs.media_types import HEAD_SIZE
from worker.outputs.staging import MOST_HELD, SMALL, Staging, Storage


@pytest.fixture
def batch(tmp_path: Path) -> Folder:
    (tmp_path / "batch").mkdir()
    return Folder(tmp_path, "batch")


@pytest.fixture(params=[True, False], ids=["fsync", "no fsync"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """It holds nothing: every file is written at once."""
    return Storage(fsync=request.param, most_held=0)


@pytest.fixture(params=[True, False], ids=["fsync", "no fsync"])
def holding(request: pytest.FixtureRequest) -> Storage:
    return Storage(fsync=request.param)


@pytest.fixture
async def staging(storage: Storage, batch: Folder) -> AsyncIterator[Staging]:
    async with storage.staging(batch, "a") as staging:
        yield staging


def checksum(algorithm: Algorithm, content: bytes) -> Checksum:
    """As the file host computes it."""
    digest = crc32c(content).to_bytes(4) if algorithm == "crc32c" else hashlib.md5(content).digest()
    return Checksum(algorithm, digest)


def files(batch: Folder) -> dict[str, bytes]:
    """What is in the folder, without the nonces of staging folders."""
    paths = [path for path in batch.path.rglob("*") if path.is_file()]
    return {re.sub(r"(?<=\.saving/a)\.\w+", "", str(path.relative_to(batch.path))): path.read_bytes() for path in paths}


@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [WRITE_SIZE], [65536] * 50, [WRITE_SIZE - 1, 2], [5_000_001]])
async def test_a_stream_is_on_disk_with_its_size_and_checksum(
    staging: Staging, batch: Folder, sizes: list[int]
) -> None:
    chunks = [os.urandom(size) for size in sizes]
    content = b"".join(chunks)
    async with FileWriter(staging, "output_0") as writer:
        for chunk in chunks:
            await writer.write(chunk)
        assert writer.bytes == len(content)
        assert writer.head == content[:HEAD_SIZE]
        written = await writer.finish(".bin")
    assert written
    assert (written.path, written.bytes) == (staging.directory / "output_0.bin", len(content))
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert files(batch) == {".saving/a/output_0.bin": content}


async def test_chunks_are_gathered_and_each_write_is_one_hop_to_a_thread(
    staging: Staging, batch: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them opens the file, too, and the last hop gives it its name."""
    hops, submit, chunks = list[Any](), disk.THREADS.submit, [os.urandom(1 << 16) for _ in range(84)]

    def count(*call: Any) -> Any:
        hops.append(call)
        return submit(*call)

    monkeypatch.setattr(disk.THREADS, "submit", count)
    async with FileWriter(staging, "output") as writer:
        for chunk in chunks:
            await writer.write(chunk)
        assert len(hops) == 5
        assert await writer.finish(".bin")
    assert len(hops) == 6
    assert files(batch) == {".saving/a/output.bin": b"".join(chunks)}


@given(st.lists(st.binary() | st.none(), max_size=30))
def test_a_restart_forgets_what_came_before(steps: list[bytes | None]) -> None:
    """None restarts; writes of a few bytes go to the disk at once here."""
    last = max((place for place, step in enumerate(steps) if step is None), default=-1)
    expected = b"".join(step or b"" for step in steps[last + 1 :])

    async def run(directory: Path) -> None:
        storage = Storage(fsync=False, most_held=0)
        async with storage.staging(Folder(directory, ""), "x") as staging, FileWriter(staging, "output") as writer:
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
    staging: Staging, batch: Folder, size: int, algorithm: Algorithm
) -> None:
    content = os.urandom(size)
    right = checksum(algorithm, content)
    async with FileWriter(staging, "output") as writer:
        await writer.restart(right)
        await writer.write(content[::-1])
        assert await writer.finish(".png") is None
        assert ".saving/a/output.png" not in files(batch)
        await writer.restart(right)
        await writer.write(content)
        assert await writer.finish(".png")
    assert files(batch) == {".saving/a/output.png": content}


@pytest.mark.parametrize("size", [10, WRITE_SIZE + 10])
async def test_what_has_another_checksum_can_be_finished_without(staging: Staging, batch: Folder, size: int) -> None:
    content = os.urandom(size)
    async with FileWriter(staging, "output") as writer:
        await writer.restart(checksum("md5", b"other"))
        await writer.write(content)
        assert await writer.finish(".png") is None
        assert (written := await writer.finish(".png", check=False))
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert files(batch) == {".saving/a/output.png": content}


async def test_what_is_left_unfinished_has_no_final_name(staging: Staging, batch: Folder) -> None:
    async with FileWriter(staging, "output") as writer:
        await writer.write(bytes(WRITE_SIZE))
    assert list(files(batch)) == [".saving/a/output.part"]


async def test_commit_is_one_rename_with_the_record_in_it(staging: Staging, batch: Folder) -> None:
    await staging.write("output.txt", b"text")
    assert files(batch) == {".saving/a/output.txt": b"text"}
    assert await staging.commit(b"{}")
    assert files(batch) == {"a/output.txt": b"text", "a/prediction.json": b"{}"}
    assert not staging.directory.exists()


async def test_what_is_not_committed_is_deleted(storage: Storage, batch: Folder) -> None:
    async def fail() -> None:
        async with storage.staging(batch, "a") as staging:
            await staging.write("output.txt", b"text")
            assert staging.directory.exists()
            raise ValueError("no more files")

    with pytest.raises(ValueError, match="no more files"):
        await fail()
    assert list((batch.path / ".saving").iterdir()) == []


async def test_small_files_are_written_by_the_commit(holding: Storage, batch: Folder) -> None:
    async with holding.staging(batch, "a") as staging:
        for content in (b"first", b"small"):  # the second in place of the first
            async with FileWriter(staging, "output_0") as writer:
                await writer.restart(checksum("md5", content))
                await writer.write(content[:1])
                await writer.write(content[1:])
                assert (written := await writer.finish(".bin"))
            assert written.path == staging.directory / "output_0.bin"
            assert written.sha256 == hashlib.sha256(content).hexdigest()
        await staging.write("output.txt", b"text")
        assert files(batch) == {}
        async with FileWriter(staging, "output_1") as writer:
            await writer.write(bytes(SMALL + 1))
            assert await writer.finish(".bin")
        assert list(files(batch)) == [".saving/a/output_1.bin"]
        assert await staging.commit(b"{}")
    assert files(batch) == {
        "a/output_0.bin": b"small",
        "a/output_1.bin": bytes(SMALL + 1),
        "a/output.txt": b"text",
        "a/prediction.json": b"{}",
    }


async def test_a_held_file_with_another_checksum_is_none(holding: Storage, batch: Folder) -> None:
    async with holding.staging(batch, "a") as staging:
        async with FileWriter(staging, "output") as writer:
            await writer.restart(checksum("crc32c", b"right"))
            await writer.write(b"wrong")
            assert await writer.finish(".png") is None
            await writer.restart(checksum("crc32c", b"right"))
            await writer.write(b"right")
            assert await writer.finish(".png")
        assert await staging.commit(b"{}")
    assert files(batch) == {"a/output.png": b"right", "a/prediction.json": b"{}"}


@pytest.mark.parametrize("end", ["committed", "overtaken", "failed", "discarded"])
async def test_only_so_much_is_held_and_none_after_the_end(batch: Folder, end: str) -> None:
    storage, target = Storage(fsync=False, most_held=11), batch.prompt("a")
    async with storage.staging(batch, "a") as staging:
        await staging.write("output_0.txt", b"12345678")
        await staging.write("output_1.txt", b"123")
        assert files(batch) == {".saving/a/output_1.txt": b"123"}
        if end == "overtaken":
            target.mkdir()
            (target / "prediction.json").write_bytes(b"theirs")
        if end == "failed":
            target.write_bytes(b"no folder")
        if end != "discarded":
            with suppress(StorageError):
                assert await staging.commit(b"{}") is (end == "committed")
    assert not staging.directory.exists()
    async with storage.staging(batch, "b") as another:
        await another.write("output.txt", b"1234567890")
        assert not another.directory.exists(), "it is held"
        await another.write("output_1.txt", b"1")
        assert another.directory.exists()


async def test_a_prompt_without_files_is_committed_too(staging: Staging, batch: Folder) -> None:
    assert await staging.commit(b"{}")
    assert files(batch) == {"a/prediction.json": b"{}"}


async def test_an_empty_target_is_taken_over(staging: Staging, batch: Folder) -> None:
    batch.prompt("a").mkdir()
    assert await staging.commit(b"{}")


async def test_who_commits_second_changes_nothing(storage: Storage, batch: Folder) -> None:
    async with storage.staging(batch, "a") as first, storage.staging(batch, "a") as second:
        assert await first.commit(b"first")
        assert not await second.commit(b"second")
        assert files(batch) == {"a/prediction.json": b"first", ".saving/a/prediction.json": b"second"}
    assert files(batch) == {"a/prediction.json": b"first"}


async def test_of_many_at_once_one_commits(storage: Storage, batch: Folder) -> None:
    async def attempt(number: int) -> bool:
        async with storage.staging(batch, "a") as staging:
            return await staging.commit(b"%d" % number)

    done = await asyncio.gather(*map(attempt, range(20)))
    assert done.count(True) == 1
    assert files(batch) == {"a/prediction.json": b"%d" % done.index(True)}


async def test_a_batch_folder_that_is_gone_is_not_made_again(storage: Storage, tmp_path: Path) -> None:
    async with storage.staging(Folder(tmp_path, "gone"), "a") as staging:
        with pytest.raises(StorageError, match="is gone") as caught:
            await staging.write("output.txt", b"text")
        assert caught.value.path == tmp_path / "gone"
        with pytest.raises(StorageError, match="is gone"):
            await staging.commit(b"{}")
        async with FileWriter(staging, "output") as writer:
            with pytest.raises(StorageError, match="is gone"):
                await writer.finish(".txt")
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
    staging: Staging, number: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (disk, stream):
        monkeypatch.setattr(module, "write_all", failing(number))
    with pytest.raises(StorageError, match=sentence) as caught:
        await staging.write("output.txt", b"text")
    assert str(staging.directory / "output.txt") in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    async with FileWriter(staging, "output") as writer:
        with pytest.raises(StorageError, match=sentence):
            await writer.write(bytes(WRITE_SIZE))


async def test_a_target_that_is_a_file_is_an_error(staging: Staging, batch: Folder) -> None:
    batch.prompt("a").write_text("not a folder")
    with pytest.raises(StorageError):
        await staging.commit(b"{}")


async def test_a_folder_that_cannot_be_deleted_is_left_to_the_next_run(
    storage: Storage, batch: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shutil.rmtree", failing(errno.EACCES))
    caplog.set_level("DEBUG")
    async with storage.staging(batch, "a") as staging:
        await staging.write("output.txt", b"text")
    assert staging.directory.exists()
    assert "cannot be deleted" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where every write finds a full disk")
async def test_a_full_disk_is_an_error(staging: Staging) -> None:
    staging.make()
    (staging.directory / "output.part").symlink_to("/dev/full")
    async with FileWriter(staging, "output") as writer:
        with pytest.raises(StorageError, match="the disk is full"):
            await writer.write(bytes(WRITE_SIZE))


@pytest.mark.parametrize("cancels", [1, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancel_waits_until_the_thread_is_off_the_file(
    staging: Staging,
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
    task = asyncio.create_task(staging.write("output.txt", b"text"))
    assert await asyncio.to_thread(started.wait, 30)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    done, _ = await asyncio.wait([task], timeout=0.01)
    assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("most_held", [0, MOST_HELD], ids=["at once", "held"])
async def test_durability_costs_what_it_must_and_no_more(
    batch: Folder, most_held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file, the staging folder, and after the rename the batch's folder."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        link = Path(f"/proc/self/fd/{descriptor}")
        synced.append(str(link.readlink()) if link.exists() else "?")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for durable in (False, True):
        async with Storage(fsync=durable, most_held=most_held).staging(batch, f"a{durable}") as staging:
            async with FileWriter(staging, "output") as writer:
                await writer.write(b"x")
                await writer.finish(".png")
            await staging.commit(b"{}")
        assert len(synced) == (4 if durable else 0)
    assert synced[-1] in (str(batch.path), "?")
