"""The disk, off the event loop: streams in large writes, checksums on the way, one rename to commit.

aiofiles costs a thread hop for each call of a file, so that a call here does all it can in one hop.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiofiles.os import wrap

from jobs.errors import StorageError
from jobs.folder import Folder

WRITE_SIZE = 1 << 20
"""Bytes gathered for one write: 16 KiB writes reach 246 MB/s, 1 MiB writes 2,900."""

HEAD_SIZE = 64
PART = ".part"
RECORD = "prediction.json"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is whole on disk."""

    path: Path
    bytes: int
    sha256: str


class Storage:
    """The output folder; with `fsync` what it has written survives a power cut. Raises StorageError only.

    `owner` is the random id of the batch whose folder it must be (None: any); LostFolder when it is not.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._fsync = fsync

    @asynccontextmanager
    async def writer(self, directory: Path, stem: str, owner: str | None = None) -> AsyncIterator[Writer]:
        """Write one file of a folder below `.saving`, which is made when it is not there."""
        writer = Writer(directory, stem, owner, fsync=self._fsync)
        try:
            yield writer
        finally:
            await writer.close()

    async def write_bytes(self, path: Path, content: bytes, owner: str | None = None) -> None:
        """Write a whole file into a folder below `.saving`, which is made when it is not there."""
        await _off_loop(path, _write_file, path, content, owner, fsync=self._fsync)

    async def commit(self, saving: Path, target: Path, record: bytes | None = None, owner: str | None = None) -> bool:
        """Make a folder a prompt's for good, with `record` as its prediction.json: all or nothing.

        False: somebody committed first; both folders are as they were.
        """
        return await _off_loop(target, _commit, saving, target, record, owner, fsync=self._fsync)

    async def discard(self, saving: Path) -> None:
        """Delete a folder with all that is in it; that it is gone already is no error."""
        await _off_loop(saving, _delete, saving)


class Writer:
    """One file on its way to disk; it is opened when 1 MiB has come, so that a small file takes one thread hop.

    `bytes` counts what came since the last start, `head` is the beginning of it.
    """

    def __init__(self, directory: Path, stem: str, owner: str | None, *, fsync: bool) -> None:
        self._part = directory / f"{stem}{PART}"
        self._stem = stem
        self._owner = owner
        self._fsync = fsync
        self._file: FileIO | None = None
        self._begin(md5=False)

    def _begin(self, *, md5: bool) -> None:
        self.bytes, self.head = 0, b""
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    async def restart(self, *, md5: bool = False) -> None:
        """Forget what has come; md5 is computed only if it is asked for here."""
        self._begin(md5=md5)
        if self._file:
            await _off_loop(self._part, self._file.truncate, 0)
            await _off_loop(self._part, self._file.seek, 0)

    async def write(self, chunk: bytes) -> None:
        """Take a chunk of any size."""
        if len(self.head) < HEAD_SIZE:
            self.head = (self.head + chunk)[:HEAD_SIZE]
        self.bytes += len(chunk)
        self._pieces.append(chunk)
        self._gathered += len(chunk)
        if self._gathered >= WRITE_SIZE:
            await _off_loop(self._part, self._spill)

    async def finish(self, suffix: str, *, md5: str | None = None) -> Written | None:
        """Bring the rest to disk and give the file its name: the stem and `suffix`.

        None: what came does not have that md5; it has no name, and can be restarted or finished without.
        """
        path = self._part.with_name(f"{self._stem}{suffix}")
        if not await _off_loop(path, self._finish, path, md5):
            return None
        return Written(path, self.bytes, self.sha256)

    @property
    def sha256(self) -> str:
        """In hex, of what was finished."""
        return self._sha256.hexdigest()

    async def close(self) -> None:
        """Close the file; what is unfinished stays as `<stem>.part`."""
        if self._file and not self._file.closed:
            await _off_loop(self._part, self._file.close)

    def _spill(self) -> FileIO:
        content = b"".join(self._pieces)
        self._pieces, self._gathered = [], 0
        if self._file is None:
            _make(self._part.parent, self._owner)
            self._file = FileIO(self._part, "wb")
        _write(self._file, content)
        self._sha256.update(content)
        if self._md5:
            self._md5.update(content)
        return self._file

    def _finish(self, path: Path, md5: str | None) -> bool:
        file = self._spill()
        if md5 and self._md5 and self._md5.hexdigest() != md5:
            return False
        with file:
            if self._fsync:
                os.fsync(file.fileno())
        self._part.rename(path)
        return True


async def _off_loop(path: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread. A thread cannot be stopped: a cancel waits for it, so that nobody works on a file in use."""
    hop: asyncio.Future[T] = asyncio.ensure_future(wrap(function)(*args, **kwargs))
    try:
        return await asyncio.shield(hop)
    except asyncio.CancelledError:
        while not hop.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([hop])
        if not hop.cancelled():
            hop.exception()
        raise
    except OSError as error:
        raise StorageError(_sentence(error, path), path) from error


def _sentence(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {path} cannot be written"
    if error.errno == errno.EFBIG:
        return f"{path} is larger than a file may be here (see `ulimit -f`)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} is not writable: {error.strerror}"
    if error.errno == errno.ENOENT:
        return f"the folder of {path} is gone"
    return f"{path} cannot be written: {error.strerror or error}"


def _make(saving: Path, owner: str | None) -> None:
    """Make the folder and `.saving` above it, but not the batch's: when that is gone, it must not be made anew."""
    home = saving.parent.parent
    place = os.path.join(saving.parent.name, saving.name)  # noqa: PTH118 - relative to a descriptor
    with Folder(home.parent, home.name).opened(owner) as descriptor, suppress(FileExistsError):
        try:
            os.mkdir(place, dir_fd=descriptor)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(saving.parent.name, dir_fd=descriptor)
            os.mkdir(place, dir_fd=descriptor)


def _write(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _write_file(path: Path, content: bytes, owner: str | None, *, fsync: bool) -> None:
    _make(path.parent, owner)
    with FileIO(path, "wb") as file:
        _write(file, content)
        if fsync:
            os.fsync(file.fileno())


def _commit(saving: Path, target: Path, record: bytes | None, owner: str | None, *, fsync: bool) -> bool:
    if record is not None:
        _write_file(saving / RECORD, record, owner, fsync=fsync)
    if fsync:
        _sync_directory(saving)
    home = target.parent
    with Folder(home.parent, home.name).opened(owner) as descriptor:
        try:
            os.rename(saving.relative_to(home), target.name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        if fsync:
            os.fsync(descriptor)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(directory: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
