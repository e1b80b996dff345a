"""The disk, off the event loop. Raises StorageErrors: sentences that name the path.

aiofiles costs a thread hop for each call of a file, so each call does all it can in one hop.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiofiles.os import wrap
from aiofiles.threadpool import wrap as wrap_file
from aiofiles.threadpool.binary import AsyncFileIO

from jobs.errors import StorageError
from worker.background import finish_despite_cancel

P = ParamSpec("P")
T = TypeVar("T")

MOST_PIECES = 64
"""For one call; the systems' limit is 1,024 or 16."""

THREADS = ThreadPoolExecutor(16, "disk")
"""Its own, so that a disk that hangs stops nothing else; fsyncs at once share a commit of the file system's journal."""


async def off_loop(path: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread. A thread cannot be stopped: a cancel waits for it, so that nobody works on a file in use."""
    return await finish_call(path, _call(partial(function, *args, **kwargs), executor=THREADS))


def handle_of(file: FileIO) -> AsyncFileIO:
    """The handle of aiofiles for an open file, whose calls are for `finish_call`."""
    handle: AsyncFileIO = wrap_file(file, executor=THREADS)
    return handle


async def finish_call(path: Path, call: Awaitable[T]) -> T:
    """Wait for a call in a thread, after a cancel too."""
    try:
        return await finish_despite_cancel(asyncio.ensure_future(call))
    except OSError as error:
        raise StorageError(_sentence(error, path), path) from error


@wrap
def _call(function: Callable[[], T]) -> T:
    return function()


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


def write_all(descriptor: int, pieces: Sequence[bytes]) -> None:
    """Write to the last byte, in as few calls as it takes."""
    rest = [memoryview(piece) for piece in pieces if piece]
    while rest:
        written = os.writev(descriptor, rest[:MOST_PIECES])
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = rest[0][written:]


def write_file(name: Path | str, folder: int | None, pieces: Sequence[bytes], *, fsync: bool) -> None:
    """Write a whole file, `name` being in the open `folder` or a whole path.

    Not by a file object: its fstat and lseek would each give the GIL away, too.
    """
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666, dir_fd=folder)
    try:
        write_all(descriptor, pieces)
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
