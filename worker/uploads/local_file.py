"""A local file as a worker uploads it: opened once, compared with what was enqueued, and read in pieces."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from jobs.errors import InputFileError
from jobs.input_files.path_texts import shown_path
from jobs.input_files.reference import FileReference
from worker.outputs.media_types import HEAD_SIZE

PIECE = 1 << 18
PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ETIMEDOUT, errno.ENOMEM, errno.EBUSY}
)
"""Errors of the disk or the network under it that may be gone a moment later."""

READERS = ThreadPoolExecutor(4, "input files")
"""Their own, so that a disk that hangs stops nothing else."""

RETRY = "`python -m jobs retry`"
CHANGED = f"has changed since it was enqueued: put it back as it was and {RETRY}, or enqueue it again with --replace"
GONE = (
    f"is not there for worker %s: put it back and {RETRY}; if workers do not see the producer's files, enqueue with "
    "--copy-inputs"
)
UNREADABLE = f"cannot be read by worker %s (%s): change that, and {RETRY}"
COPY = "; its copy %s cannot be used either: the same enqueue with --copy-inputs, where the file is, makes a new one"
NO_FILE = f"is no regular file any more: put it back as it was, and {RETRY}"


class _Opened(NamedTuple):
    descriptor: int
    path: Path
    head: bytes


class LocalFile:
    """An open file whose content was the one that was enqueued; what it has become meanwhile shows in `check`."""

    def __init__(self, descriptor: int, path: Path, reference: FileReference, head: bytes) -> None:
        self.name, self.size, self.head = Path(reference.path).name, reference.size, head
        self._descriptor, self._path, self._reference = descriptor, path, reference
        self._trouble: OSError | InputFileError | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its content, read once."""
        digest, read = hashlib.sha256(), 0
        while read < self.size:
            try:
                piece = await self._read(read)
            except (OSError, InputFileError) as error:
                self._trouble = error
                raise
            digest.update(piece)
            read += len(piece)
            yield piece
        if digest.hexdigest() != self._reference.sha256:
            self._trouble = InputFileError(f"{shown_path(self._path)} {CHANGED}")

    async def _read(self, start: int) -> bytes:
        count, loop = min(PIECE, self.size - start), asyncio.get_running_loop()
        if piece := await loop.run_in_executor(READERS, os.pread, self._descriptor, count, start):
            return piece
        raise InputFileError(f"{shown_path(self._path)} {CHANGED}")

    def check(self) -> None:
        """Raise the error that reading it met, if any: InputFileError when it has changed, OSError when it may pass."""
        if self._trouble:
            raise self._trouble


@asynccontextmanager
async def opened(paths: Sequence[Path], reference: FileReference) -> AsyncIterator[LocalFile]:
    """The first of the paths that has the content of the reference.

    InputFileError says what is wrong with the last one; OSError is an error that may pass.
    """
    descriptor, path, head = await _open_in_thread(paths, reference)
    try:
        yield LocalFile(descriptor, path, reference, head)
    finally:
        os.close(descriptor)


async def _open_in_thread(paths: Sequence[Path], reference: FileReference) -> _Opened:
    """Open a file, which may take as long as its disk hangs; a cancel does not wait for it."""
    opening = asyncio.get_running_loop().run_in_executor(READERS, _open_first, paths, reference)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[_Opened]) -> None:
    if not opening.cancelled() and not opening.exception():
        os.close(opening.result().descriptor)


def _open_first(paths: Sequence[Path], reference: FileReference) -> _Opened:
    passing, damaged = None, None
    for path in paths:
        try:
            return _open(path, reference)
        except OSError as error:
            error.filename = str(path)
            passing = error
        except InputFileError as error:
            if path == paths[-1] and not passing:
                raise InputFileError(f"{error}{COPY % shown_path(damaged)}") if damaged else error from error
            damaged = path if os.path.lexists(path) else damaged
    raise passing or FileNotFoundError(errno.ENOENT, "no path")


def _open(path: Path, reference: FileReference) -> _Opened:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise unusable(path, error) from error
    try:
        return _Opened(descriptor, path, _compare(descriptor, path, reference))
    except BaseException:
        os.close(descriptor)
        raise


def unusable(path: Path, error: OSError) -> InputFileError:
    """What a row's error says of a file that the system does not let us read."""
    host = socket.gethostname()
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return InputFileError(f"{shown_path(path)} {GONE % host}")
    return InputFileError(f"{shown_path(path)} {UNREADABLE % (host, error.strerror or error)}")


def _compare(descriptor: int, path: Path, reference: FileReference) -> bytes:
    """The first bytes of a file that is as it was enqueued."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise InputFileError(f"{shown_path(path)} {NO_FILE}")
    digest, at = hashlib.sha256(), 0
    while found.st_size == reference.size and (piece := os.pread(descriptor, PIECE, at)) and at < reference.size:
        digest.update(piece)
        at += len(piece)
    if digest.hexdigest() != reference.sha256 or found.st_size != reference.size:
        raise InputFileError(f"{shown_path(path)} {CHANGED}")
    return os.pread(descriptor, HEAD_SIZE, 0)
