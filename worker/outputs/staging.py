"""The output folder: files are written below `.saving`, and one rename commits all of a prompt's."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

from jobs.batch_folder.atomic_files import fsync_directory
from jobs.batch_folder.folder import Folder
from worker.outputs.disk import off_loop, write_file
from worker.outputs.file_writer import FileWriter, SmallFiles

RECORD = "prediction.json"


class Storage:
    """The output folder; with `fsync` what it has written survives a power cut. Raises StorageError only.

    `owner` is the random id of the batch whose folder it must be (None: any); LostFolder when it is not.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._fsync = fsync
        self._made: set[Path] = set()
        self._making = threading.Lock()
        self._held = SmallFiles()

    def writer(self, directory: Path, stem: str, owner: str | None = None, *, hold: bool = False) -> FileWriter:
        """Write one file of a folder below `.saving`, which is made when it is not there.

        With `hold` a small file stays in memory until the folder is committed or discarded.
        """
        make = partial(self._make, directory, owner)
        return FileWriter(directory, stem, make, fsync=self._fsync, held=self._held if hold else None)

    async def write_bytes(self, path: Path, content: bytes, owner: str | None = None, *, hold: bool = False) -> None:
        """Write a whole file into a folder below `.saving`, as a `writer` does."""
        if hold and self._held.has_room(len(content)):
            self._held.put(path.parent, path.name, [content])
        else:
            await off_loop(path, self._write, path, content, owner)

    async def commit(self, saving: Path, target: Path, record: bytes | None = None, owner: str | None = None) -> bool:
        """Make a folder a prompt's for good, with what is held of it, and `record` as its prediction.json.

        All or nothing. False: somebody committed first; both folders are as they were.
        """
        files = dict(self._held.files(saving))
        if record is not None:
            files[RECORD] = [record]
        try:
            return await off_loop(target, self._commit, saving, target, files, owner)
        finally:
            self._held.drop(saving)

    async def discard(self, saving: Path) -> None:
        """Delete a folder with all that is in it; that it is gone already is no error."""
        self._held.drop(saving)
        self._made.discard(saving)
        await off_loop(saving, _delete, saving)

    def _write(self, path: Path, content: bytes, owner: str | None) -> None:
        self._make(path.parent, owner)
        write_file(path, None, [content], fsync=self._fsync)

    def _make(self, saving: Path, owner: str | None) -> None:
        home = saving.parent.parent
        with Folder(home.parent, home.name).opened(owner) as descriptor:
            self._make_in(descriptor, saving)

    def _make_in(self, home: int, saving: Path) -> None:
        """Make the folder once: one that was swept meanwhile must not come back without what was in it."""
        with self._making:
            if saving not in self._made:
                _make(home, saving)
                self._made.add(saving)

    def _commit(self, saving: Path, target: Path, files: dict[str, list[bytes]], owner: str | None) -> bool:
        home, place = target.parent, _place(saving)
        with Folder(home.parent, home.name).opened(owner) as descriptor:
            if files:
                self._make_in(descriptor, saving)
            self._fill(descriptor, place, files)
            try:
                os.rename(place, target.name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            if self._fsync:
                fsync_directory(descriptor)
        self._made.discard(saving)
        return True

    def _fill(self, home: int, place: str, files: dict[str, list[bytes]]) -> None:
        """Write files into a folder; with `fsync` its names survive a power cut, too."""
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY, dir_fd=home)
        try:
            for name, pieces in files.items():
                write_file(name, folder, pieces, fsync=self._fsync)
            if self._fsync:
                fsync_directory(folder)
        finally:
            os.close(folder)


def _place(saving: Path) -> str:
    """Where it is in its batch's folder."""
    return f"{saving.parent.name}/{saving.name}"


def _make(home: int, saving: Path) -> None:
    """Make the folder and `.saving` above it, but not the batch's: when that is gone, it must not be made anew."""
    with suppress(FileExistsError):
        try:
            os.mkdir(_place(saving), dir_fd=home)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(saving.parent.name, dir_fd=home)
            os.mkdir(_place(saving), dir_fd=home)


def _delete(directory: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
