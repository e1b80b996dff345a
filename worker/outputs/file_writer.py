"""One file on its way to disk, in large writes, with its checksums."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Self

from jobs.batch_folder.atomic_files import PART
from worker.outputs.disk import MOST_PIECES, off_loop, write_all
from worker.outputs.file_response import Checksum
from worker.outputs.media_types import HEAD_SIZE
from worker.outputs.staging import Staging

WRITE_SIZE = 1 << 20
"""Bytes gathered for one write: 16 KiB writes reach 246 MB/s, 1 MiB writes 2,900."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that is whole, on disk or held for the commit of its staging folder."""

    path: Path
    bytes: int
    sha256: str


class FileWriter:
    """One file on its way into a staging folder; it is opened when 1 MiB has come: one below takes one thread hop.

    A small one takes none: it is held for the commit. `bytes` counts what came since the last start, `head` is the
    beginning of it. A context manager that closes what it has opened.
    """

    def __init__(self, staging: Staging, stem: str) -> None:
        self._staging = staging
        self._stem = stem
        self._file: FileIO | None = None
        self._begin(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def _part(self) -> Path:
        return self._staging.directory / f"{self._stem}{PART}"

    def _begin(self, checksum: Checksum | None) -> None:
        self.bytes, self.head = 0, b""
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._unwritten: list[bytes] = []
        self._sha256 = hashlib.sha256()
        self._checksum = checksum
        self._hash = checksum.begin() if checksum else None

    async def restart(self, checksum: Checksum | None = None) -> None:
        """Forget what has come, and expect bytes with that checksum."""
        self._begin(checksum)
        if self._file:
            await off_loop(self._part, self._file.truncate, 0)
            await off_loop(self._part, self._file.seek, 0)

    async def write(self, chunk: bytes) -> None:
        """Take a chunk of any size."""
        if len(self.head) < HEAD_SIZE:
            self.head = (self.head + chunk)[:HEAD_SIZE]
        self.bytes += len(chunk)
        self._pieces.append(chunk)
        self._gathered += len(chunk)
        if self._gathered >= WRITE_SIZE:
            await off_loop(self._part, self._spill)

    async def finish(self, suffix: str, *, check: bool = True) -> WrittenFile | None:
        """Bring the rest to disk, or hold all of it, and give the file its name: the stem and `suffix`.

        None: what came has another checksum; it has no name, and can be restarted, or finished without a check.
        """
        name = f"{self._stem}{suffix}"
        path = self._staging.directory / name
        if not self._file and self._staging.has_room(self.bytes):
            if not self._is_right(check=check):
                return None
            self._staging.hold(name, self._unwritten)
        elif not await off_loop(path, self._finish, path, check=check):
            return None
        return WrittenFile(path, self.bytes, self.sha256)

    @property
    def sha256(self) -> str:
        """In hex, of what was finished."""
        return self._sha256.hexdigest()

    async def close(self) -> None:
        """Close the file; what is unfinished stays as `<stem>.part`."""
        if self._file and not self._file.closed:
            await off_loop(self._part, self._file.close)

    def _gather(self) -> None:
        pieces = self._pieces if len(self._pieces) <= MOST_PIECES else [b"".join(self._pieces)]
        self._pieces, self._gathered = [], 0
        for piece in pieces:
            self._sha256.update(piece)
            if self._hash:
                self._hash.update(piece)
        self._unwritten += pieces

    def _spill(self) -> None:
        self._gather()
        if self._file is None:
            self._staging.make()
            self._file = FileIO(self._part, "wb")
        write_all(self._file.fileno(), self._unwritten)
        self._unwritten = []

    def _is_right(self, *, check: bool) -> bool:
        self._gather()
        return not (check and self._checksum and self._hash and self._hash.digest() != self._checksum.digest)

    def _finish(self, path: Path, *, check: bool) -> bool:
        if not self._is_right(check=check):
            return False
        if self._file is None:  # it has its name from the start
            self._staging.write_now(path.name, self._unwritten)
            return True
        with self._file:
            write_all(self._file.fileno(), self._unwritten)
            if self._staging.fsync:
                os.fsync(self._file.fileno())
        self._part.rename(path)
        return True
