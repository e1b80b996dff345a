"""Staging folders below `.saving`: all files of a prompt are written into one, and one rename commits them."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

from jobs.batch_folder.atomic_files import fsync_directory
from jobs.batch_folder.folder import RECORD, Folder
from jobs.errors import StorageError
from worker.outputs.disk import off_loop, write_file

logger = logging.getLogger(__name__)

SMALL = 1 << 18
"""Bytes of a file that is held: its checksums take the event loop 0.5 ms at most (sha256 and md5; 0.2 with crc32c)."""

MOST_HELD = 1 << 25
"""Bytes of all files that are held are fewer; one that does not fit is written at once, in its download's slot."""


class Storage:
    """The disk of one worker: its staging folders, and how much of their small files is held in memory.

    With `fsync` a committed folder survives a power cut.
    """

    def __init__(self, *, fsync: bool = True, most_held: int = MOST_HELD) -> None:
        self.fsync = fsync
        self._most_held = most_held
        self._held = 0
        # With a number it names a folder as no other process does; random bytes for each would cost a GIL switch.
        self._nonce, self._numbers = secrets.token_hex(8), count(1)

    @asynccontextmanager
    async def staging(self, folder: Folder, prompt_id: str, batch_id: str | None = None) -> AsyncIterator[Staging]:
        """A staging folder for the block, deleted at its end unless it was committed.

        `batch_id` is the random id of the batch whose folder it must be (None: any). Writing raises StorageError, and
        LostFolder when the folder is gone or another batch's.
        """
        staging = Staging(self, folder, folder.saving(prompt_id, f"{self._nonce}{next(self._numbers):x}"), batch_id)
        try:
            yield staging
        finally:
            await staging.discard()

    def has_room(self, size: int) -> bool:
        """Whether a file of `size` bytes may be held."""
        return size <= SMALL and self._held + size < self._most_held

    def count_held(self, size: int) -> None:
        """Count bytes that are held from now on, or (negative) no longer."""
        self._held += size


class Staging:
    """One staging folder, `.saving/<prompt id>.<nonce>`, made by the first file that is written into it.

    Small files are held in memory and written by the commit. Its coroutines are for the event loop only.
    """

    def __init__(self, storage: Storage, folder: Folder, directory: Path, batch_id: str | None) -> None:
        self.prompt_id = directory.name.rpartition(".")[0]
        self.directory = directory
        self.fsync = storage.fsync
        self._storage = storage
        self._folder = folder
        self._batch_id = batch_id
        self._held: dict[str, Sequence[bytes]] = {}
        self._made = False
        self._making = threading.Lock()

    def has_room(self, size: int) -> bool:
        """Whether a file of `size` bytes may be held."""
        return self._storage.has_room(size)

    def hold(self, name: str, pieces: Sequence[bytes]) -> None:
        """Keep a file in memory until the commit, in place of an earlier one of that name."""
        self._storage.count_held(_size(pieces) - _size(self._held.get(name, ())))
        self._held[name] = pieces

    async def write(self, name: str, content: bytes) -> None:
        """Take a whole file."""
        if self.has_room(len(content)):
            self.hold(name, [content])
        else:
            await off_loop(self.directory / name, self.write_now, name, [content])

    def write_now(self, name: str, pieces: Sequence[bytes]) -> None:
        """Write a whole file, blocking: for a thread of `off_loop`."""
        self.make()
        write_file(self.directory / name, None, pieces, fsync=self.fsync)

    def make(self) -> None:
        """Make the folder unless this did so before, blocking: for a thread of `off_loop`."""
        with self._folder.opened(self._batch_id) as batch:
            self._make_in(batch)

    async def commit(self, record: bytes) -> bool:
        """Make it the prompt's folder, with the files that are held and `record` as its prediction.json.

        All or nothing. False: somebody else committed first, and theirs is untouched.
        """
        files = {**self._held, RECORD: [record]}
        return await off_loop(self._folder.prompt(self.prompt_id), self._commit, files)

    async def discard(self) -> None:
        """Delete the folder with all its files; one that was committed or never made is no error."""
        self._storage.count_held(-sum(map(_size, self._held.values())))
        self._held.clear()
        if self._made:
            try:
                await off_loop(self.directory, self._delete)
            except StorageError as error:
                logger.debug("%s cannot be deleted: %s", self.directory, error)

    @property
    def _place(self) -> str:
        """Its path in the batch's folder."""
        return f"{self.directory.parent.name}/{self.directory.name}"

    def _make_in(self, batch: int) -> None:
        """Make it and `.saving` in the open folder of the batch, once: what was swept must not come back half empty."""
        with self._making:
            if self._made:
                return
            try:
                os.mkdir(self._place, dir_fd=batch)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(self.directory.parent.name, dir_fd=batch)
                os.mkdir(self._place, dir_fd=batch)
            self._made = True

    def _commit(self, files: Mapping[str, Sequence[bytes]]) -> bool:
        with self._folder.opened(self._batch_id) as batch:
            self._make_in(batch)
            self._fill(batch, files)
            try:
                os.rename(self._place, self.prompt_id, src_dir_fd=batch, dst_dir_fd=batch)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            self._made = False
            if self.fsync:
                fsync_directory(batch)
        return True

    def _fill(self, batch: int, files: Mapping[str, Sequence[bytes]]) -> None:
        """Write files into it; with `fsync` their names survive a power cut, too."""
        folder = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY, dir_fd=batch)
        try:
            for name, pieces in files.items():
                write_file(name, folder, pieces, fsync=self.fsync)
            if self.fsync:
                fsync_directory(folder)
        finally:
            os.close(folder)

    def _delete(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.directory)
        self._made = False


def _size(pieces: Iterable[bytes]) -> int:
    return sum(map(len, pieces))
