"""The batch's own copy of its prompts, and what guards its folder: identity, lock, writes that are whole or not there.

A row's place in the copy is its index for ever. The copy is only ever replaced as a whole, by a longer one, or one with
rows of a later generation: appending in place could leave a torn last line after a crash, and copying even a million
rows takes a second.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from jobs.errors import ForeignFolder, StorageError
from jobs.folder import Folder

_ROW = re.compile(rb'\{(?:"generation":(\d+),)?"id":"([A-Za-z0-9._-]+)",.*\}\n', re.DOTALL)
_FIRST_ROWS = re.compile(rb'(?:\{"id":"[A-Za-z0-9._-]+",[^\n]*\}\n)+')

BLOCK = 1 << 20
"""Bytes that are read or written at once."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What batch.json says: `id` is random and ties the folder to Redis; `created_at` is in Unix seconds.

    The limits stand here too, `max_cost` in micro-dollars: they hold again after Redis lost the batch. `source` is the
    path of the file that the batch was begun from; None for standard input.
    """

    batch: str
    id: str
    realm: str
    created_at: float
    max_predictions: int | None = None
    max_cost: int | None = None
    max_in_flight: int | None = None
    source: str | None = None


@dataclass(slots=True)
class KeptRow:
    """A row of the own copy; `text` is its JSON object without the generation, as in `prompts.Row`."""

    index: int
    generation: int
    id: str
    text: bytes


def read_identity(folder: Folder) -> Identity | None:
    """Return whose folder it is, None for one that is not there or empty; ForeignFolder if not this batch's."""
    try:
        identity = Identity(**json.loads(folder.identity.read_bytes()))
    except FileNotFoundError:
        _refuse_other_content(folder)
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ForeignFolder(f"{folder.identity} cannot be read as a batch's: {error}", folder.identity) from None
    if identity.batch != folder.batch:
        raise ForeignFolder(
            f"{folder.path} is the folder of batch {identity.batch!r}, not of {folder.batch!r}; choose another --name",
            folder.path,
        )
    return identity


def _refuse_other_content(folder: Folder) -> None:
    if folder.path.is_dir() and any(not path.name.startswith(".") for path in folder.path.iterdir()):
        raise ForeignFolder(
            f"{folder.path} has no batch.json: it is not a batch's folder. Choose another --name, or move it away",
            folder.path,
        )


def write_identity(folder: Folder, identity: Identity, *, fsync: bool) -> None:
    """Make the folder the batch's."""
    with replacing(folder.identity, fsync=fsync) as file:
        file.write(json.dumps(asdict(identity), indent=2).encode() + b"\n")


def read_rows(folder: Folder) -> Iterator[KeptRow]:
    """Yield the rows of the copy, in order; none when there is no copy. StorageError when a line is not ours."""
    return (kept_row(folder, index, line) for index, line in enumerate(read_lines(folder)))


def read_lines(folder: Folder) -> Iterator[bytes]:
    """Yield the lines of the copy as they are, for `kept_row`; StorageError."""
    if folder.prompts.exists():
        with storing(folder.prompts), folder.prompts.open("rb", BLOCK) as lines:
            yield from lines


def kept_row(folder: Folder, index: int, line: bytes) -> KeptRow:
    """Take a line of the copy apart; StorageError when it is not ours."""
    if not (match := _ROW.fullmatch(line)):
        raise StorageError(
            f"{folder.prompts}, line {index + 1}, is not as it was written; restore the file, or delete "
            f"the batch and its folder",
            folder.prompts,
        )
    generation, prompt_id = match.groups()
    text = line[:-1] if generation is None else b"{" + line[match.end(1) + 1 : -1]
    return KeptRow(index, int(generation or 0), prompt_id.decode(), text)


def are_of_first_generation(lines: list[bytes]) -> bool:
    """Whether all these lines are ours and were never retried: each is a row's text and a newline."""
    return _FIRST_ROWS.fullmatch(b"".join(lines)) is not None


def kept_line(text: bytes, generation: int) -> bytes:
    """Return a row's line of the copy."""
    return (b'{"generation":%d,' % generation + text[1:] if generation else text) + b"\n"


def model_of(text: bytes) -> str:
    """Return the model of a row: its text is canonical, so that the model is the last of its keys."""
    return text.rpartition(b'"model":"')[2][:-2].decode()


@contextmanager
def replacing(path: Path, *, fsync: bool) -> Iterator[BinaryIO]:
    """Write a file that takes the path's place, whole, when the block ends well; StorageError."""
    with storing(path), temporary(path.parent, path.name) as part:
        with part.open("wb") as file:
            yield file
            flush(file, fsync=fsync)
        move(part, path, fsync=fsync)


def flush(file: BinaryIO, *, fsync: bool) -> None:
    """Bring what was written to the disk."""
    file.flush()
    if fsync:
        os.fsync(file.fileno())


def move(part: Path, path: Path, *, fsync: bool) -> None:
    """Give a written file its name, so that it keeps it in a power cut."""
    part.replace(path)
    if fsync:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            fsync_directory(directory)
        finally:
            os.close(directory)


def fsync_directory(descriptor: int) -> None:
    """Bring the names in a directory to the disk, as far as its file system can: CIFS and some of FUSE cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise


@contextmanager
def temporary(directory: Path, name: str) -> Iterator[Path]:
    """Yield a hidden path in a directory, made if need be; what is there in the end is removed."""
    with storing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".{name}.{secrets.token_hex(4)}.part"
    try:
        yield path
    finally:
        with suppress(OSError):  # the error before it is the one to tell
            path.unlink(missing_ok=True)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise StorageError(f"{path} cannot be used: {reason}", path) from error


@asynccontextmanager
async def locked(folder: Folder, *, make: bool = True) -> AsyncIterator[None]:
    """Hold the folder, made if need be, against others who write its lists; wait for one that holds it."""
    with storing(folder.path):
        if make:
            folder.path.mkdir(parents=True, exist_ok=True)
        lock = (folder.path / ".lock").open("ab")
    with lock:
        while not _try_lock(lock, folder):  # noqa: ASYNC110 - another process holds it
            await asyncio.sleep(0.05)
        yield


def _try_lock(lock: BinaryIO, folder: Folder) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(
            f"{folder.path} cannot be locked: {error.strerror or error}. Mount its file system with locks (NFS: "
            "vers=4, or a running rpc.statd; nolock where one machine uses it), or set BATCH_OUTPUT_DIR to another one",
            folder.path,
        ) from error
    return True
