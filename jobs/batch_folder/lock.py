"""The lock of a batch's folder, for those that write its own files."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import LOCK, Folder
from jobs.errors import StorageError


@asynccontextmanager
async def locked(folder: Folder, *, create: bool = True) -> AsyncIterator[None]:
    """Lock the folder, created if `create`; waits while another process has the lock."""
    with storing(folder.path):
        if create:
            folder.path.mkdir(parents=True, exist_ok=True)
        lock = (folder.path / LOCK).open("ab")
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
