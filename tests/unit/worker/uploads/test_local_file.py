from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputFileError
from jobs.input_files.copies import copied_path
from jobs.input_files.reference import FileReference
from worker.uploads.local_file import PIECE, LocalFile, opened

CONTENT = os.urandom(2 * PIECE + 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "Häfen 1.png"
    path.write_bytes(CONTENT)
    return path


def reference_to(path: Path) -> FileReference:
    return FileReference(str(path), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace(path: Path, content: bytes) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(content)


async def content_of(file: LocalFile) -> bytes:
    return b"".join([piece async for piece in file.pieces()])


async def test_it_is_read_in_pieces(path: Path) -> None:
    async with opened([path], reference_to(path)) as file:
        assert await content_of(file) == CONTENT
        file.check()
        assert (file.name, file.size, file.head) == ("Häfen 1.png", len(CONTENT), CONTENT[:512])


async def test_a_change_in_place_is_noticed(path: Path) -> None:
    async with opened([path], reference_to(path)) as file:
        overwrite(path, CONTENT[::-1])
        assert len(await content_of(file)) == len(CONTENT)
        with pytest.raises(InputFileError, match="has changed"):
            file.check()


async def test_one_that_became_shorter_ends_the_upload(path: Path) -> None:
    async with opened([path], reference_to(path)) as file:
        os.truncate(path, PIECE)
        with pytest.raises(InputFileError, match="has changed"):
            await content_of(file)
        with pytest.raises(InputFileError, match="has changed"):
            file.check()


async def test_one_that_is_replaced_is_sent_as_it_was(path: Path) -> None:
    async with opened([path], reference_to(path)) as file:
        replace(path, b"another")
        assert await content_of(file) == CONTENT
        file.check()


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EMFILE])
async def test_an_error_that_may_pass_is_not_the_files(path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match=os.strerror(error)):
        async with opened([path], reference_to(path)):
            pass
    monkeypatch.undo()
    async with opened([path], reference_to(path)) as file:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(OSError, match=os.strerror(error)):
            await content_of(file)
        with pytest.raises(OSError, match=os.strerror(error)):
            file.check()


async def test_a_copy_that_the_disk_cannot_read_is_passed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, really_open = path.with_name("copy"), os.open

    def fail(name: Any, *others: Any, **named: Any) -> int:
        if name == copy:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really_open(name, *others, **named)

    monkeypatch.setattr(os, "open", fail)
    async with opened([copy, path], reference_to(path)) as file:
        assert await content_of(file) == CONTENT
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as failed:
        async with opened([copy, path.with_name("gone")], reference_to(path)):
            pass
    assert failed.value.filename == str(copy)


async def test_a_damaged_copy_of_a_file_that_is_gone_is_named(path: Path) -> None:
    reference, copy, path = reference_to(path), path.with_name("copy"), path.with_name("gone")
    with pytest.raises(InputFileError, match=r"--copy-inputs$"):
        async with opened([copy, path], reference):
            pass
    copy.write_bytes(b"x" * len(CONTENT))
    with pytest.raises(InputFileError, match=r"is not there for worker .*; its copy .*/copy cannot be used either"):
        async with opened([copy, path], reference):
            pass


@pytest.mark.parametrize(
    ("name", "extension"), [("a.png", ".png"), ("a.tar.gz", ".gz"), ("a", ""), ("a.", ""), ("a.b/c?d", ""), (".x", "")]
)
def test_a_copy_is_named_after_its_content(tmp_path: Path, name: str, extension: str) -> None:
    reference = reference_to(tmp_path / name)
    assert copied_path(tmp_path, reference) == tmp_path / ".inputs" / f"{reference.sha256}{extension}"
