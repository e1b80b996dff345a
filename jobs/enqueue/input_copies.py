"""Copies the files that the rows of a spool name into the batch's folder, each content once."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from jobs.batch_folder.atomic_files import BLOCK, replacing
from jobs.batch_folder.folder import Folder
from jobs.enqueue.spool import Progress, Spool
from jobs.errors import InputError
from jobs.input_files.copies import copied_path
from jobs.input_files.reference import FileReference, references_in


async def copy_inputs(spool: Spool, folder: Folder, progress: Progress, *, fsync: bool) -> None:
    """Copy what has no copy yet; InputError when a file is not as it was checked, StorageError."""
    missing, copied = _missing(spool, folder), 0
    while file := await asyncio.to_thread(next, missing, None):
        await asyncio.to_thread(_copy, file, copied_path(folder.path, file), fsync=fsync)
        copied += 1
        progress(f"copying inputs: {copied:,} files")


def _missing(spool: Spool, folder: Folder) -> Iterator[FileReference]:
    seen = set[Path]()
    for text in spool.texts():
        for file in references_in(text):
            path = copied_path(folder.path, file)
            if path not in seen and not _is_whole(path, file):
                yield file
            seen.add(path)


def _is_whole(path: Path, file: FileReference) -> bool:
    """Whether a copy has the content of its file: a power cut or a bad disk may have left another."""
    try:
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as copy:
            return hashlib.file_digest(copy, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _copy(file: FileReference, path: Path, *, fsync: bool) -> None:
    digest = hashlib.sha256()
    with replacing(path, fsync=fsync) as copy:
        for block in _blocks(file):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != file.sha256:
            raise InputError(f"{file.path} changed after it was checked: give the same command again")


def _blocks(file: FileReference) -> Iterator[bytes]:
    """The content, as far as it is not longer than it was; a pipe that lies there by now ends at once."""
    left = file.size
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as content:
            while left >= 0 and (block := content.read(BLOCK)):
                left -= len(block)
                yield block
    except OSError as error:
        raise InputError(
            f"{file.path} cannot be copied: {error.strerror or error}; give the same command again"
        ) from error
