"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jobs.errors import StorageError

PART = ".part"
"""The ending of a file that is not whole yet."""

BLOCK = 1 << 20
"""Bytes that are read or written at once."""


@contextmanager
def replacing(path: Path, *, fsync: bool, sync_name: bool = True) -> Iterator[BinaryIO]:
    """Write a file that replaces the path, whole, if the block succeeds; StorageError.

    Without `sync_name` its name survives a power cut only after `sync_names`.
    """
    with storing(path), temporary(path.parent, path.name) as part:
        with part.open("wb") as file:
            yield file
            flush(file, fsync=fsync)
        move(part, path, fsync=fsync and sync_name)


def flush(file: BinaryIO, *, fsync: bool) -> None:
    """Flush what was written, to the disk if `fsync`."""
    file.flush()
    if fsync:
        os.fsync(file.fileno())


def move(part: Path, path: Path, *, fsync: bool) -> None:
    """Give a written file its name, which survives a power cut if `fsync`."""
    part.replace(path)
    sync_names(path.parent, fsync=fsync)


def sync_names(path: Path, *, fsync: bool) -> None:
    """Let the names in a directory survive a power cut, if `fsync`."""
    if fsync:
        directory = os.open(path, os.O_RDONLY)
        try:
            fsync_directory(directory)
        finally:
            os.close(directory)


def fsync_directory(descriptor: int) -> None:
    """Sync the names in a directory, if its file system can: CIFS and some of FUSE cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise


@contextmanager
def temporary(directory: Path, name: str) -> Iterator[Path]:
    """Yield a hidden path in a directory, created if need be; the file is removed when the block ends."""
    with storing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".{name}.{secrets.token_hex(4)}{PART}"
    try:
        yield path
    finally:
        with suppress(OSError):  # the error before it matters more
            path.unlink(missing_ok=True)


def part_files(directory: Path) -> list[str]:
    """Names of files that were never written to their end; of a million entries only these are kept in memory."""
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.name.startswith(".") and entry.name.endswith(PART))


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise StorageError(f"{path} cannot be used: {reason}", path) from error
