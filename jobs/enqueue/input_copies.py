"""Copies the files that the rows of a spool name into the batch's folder, each content once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

from jobs.batch_folder.atomic_files import BLOCK, replacing
from jobs.batch_folder.folder import Folder
from jobs.enqueue.spool import Progress, Spool
from jobs.errors import InputError
from jobs.input_files.copies import copied_path, is_copied
from jobs.input_files.reference import FileReference, references_in


async def copy_inputs(spool: Spool, folder: Folder, progress: Progress, *, fsync: bool) -> None:
    """Copy what has no copy yet; InputError when a file is not as it was checked, StorageError."""
    missing, copied = _missing(spool, folder), 0
    while file := await asyncio.to_thread(next, missing, None):
        await asyncio.to_thread(_copy, file, copied_path(folder.path, file), fsync=fsync)
        copied += 1
        progress(f"copying inputs: {copied:,} files")


def _missing(spool: Spool, folder: Folder) -> Iterator[FileReference]:
    for text in spool.texts():
        for file in references_in(text):
            if not is_copied(folder.path, file):
                yield file


def _copy(file: FileReference, path: Path, *, fsync: bool) -> None:
    digest = hashlib.sha256()
    with replacing(path, fsync=fsync) as copy:
        for block in _blocks(file):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != file.sha256:
            raise InputError(f"{file.path} changed after it was checked: give the same command again")


def _blocks(file: FileReference) -> Iterator[bytes]:
    try:
        with Path(file.path).open("rb", buffering=0) as content:
            while block := content.read(BLOCK):
                yield block
    except OSError as error:
        raise InputError(
            f"{file.path} cannot be copied: {error.strerror or error}; give the same command again"
        ) from error
