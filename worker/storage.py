"""The output folder: files are written below `.saving`, and one rename commits all of a prompt's."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from jobs.folder import Folder
from worker.disk import off_loop, sync_directory, write_file
from worker.writer import Writer

RECORD = "prediction.json"


class Storage:
    """The output folder; with `fsync` what it has written survives a power cut. Raises StorageError only.

    `owner` is the random id of the batch whose folder it must be (None: any); LostFolder when it is not.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._fsync = fsync
        self._made: set[Path] = set()
        self._making = threading.Lock()

    @asynccontextmanager
    async def writer(self, directory: Path, stem: str, owner: str | None = None) -> AsyncIterator[Writer]:
        """Write one file of a folder below `.saving`, which is made when it is not there."""
        writer = Writer(directory, stem, partial(self._make, directory, owner), fsync=self._fsync)
        try:
            yield writer
        finally:
            await writer.close()

    async def write_bytes(self, path: Path, content: bytes, owner: str | None = None) -> None:
        """Write a whole file into a folder below `.saving`, which is made when it is not there."""
        make = partial(self._make, path.parent, owner)
        await off_loop(path, write_file, path, [content], make, fsync=self._fsync)

    async def commit(self, saving: Path, target: Path, record: bytes | None = None, owner: str | None = None) -> bool:
        """Make a folder a prompt's for good, with `record` as its prediction.json: all or nothing.

        False: somebody committed first; both folders are as they were.
        """
        return await off_loop(target, self._commit, saving, target, record, owner)

    async def discard(self, saving: Path) -> None:
        """Delete a folder with all that is in it; that it is gone already is no error."""
        self._made.discard(saving)
        await off_loop(saving, _delete, saving)

    def _make(self, saving: Path, owner: str | None) -> None:
        """Make the folder once: one that was swept meanwhile must not come back without what was in it."""
        with self._making:
            if saving not in self._made:
                _make(saving, owner)
                self._made.add(saving)

    def _commit(self, saving: Path, target: Path, record: bytes | None, owner: str | None) -> bool:
        home = target.parent
        with Folder(home.parent, home.name).opened(owner) as descriptor:
            if record is not None:
                write_file(saving / RECORD, [record], partial(self._make, saving, owner), fsync=self._fsync)
            if self._fsync:
                sync_directory(saving)
            try:
                os.rename(saving.relative_to(home), target.name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            if self._fsync:
                os.fsync(descriptor)
        self._made.discard(saving)
        return True


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


def _delete(directory: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
