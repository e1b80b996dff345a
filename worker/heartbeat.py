"""The heartbeat of a worker process, for its supervisor: a file that the process keeps locked and touches.

The file is local to the machine or container and to the working directory. It says only that the process is alive:
while Redis or the API is away a worker waits, and a restart would not help.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT = 5.0
"""Seconds between two beats."""

SILENT = 3 * HEARTBEAT
"""Seconds without a beat after which a worker counts as stopped."""


class Heartbeat:
    """The file of this process, locked while it lives, so that a reused process id does not mislead."""

    def __init__(self) -> None:
        self._path = heartbeat_folder() / f"{socket.gethostname()}-{os.getpid()}"
        self._file = -1

    async def beat(self) -> None:
        """Touch the file; create it if it is missing. OSError."""
        if self._file < 0 or not self._path.exists():
            await self.stop()
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.parent.lstat().st_uid != os.getuid():
                raise PermissionError(f"{self._path.parent} belongs to somebody else; `worker check` cannot work")
            self._file = _open_locked(self._path)
        os.utime(self._file)

    async def stop(self) -> None:
        """Remove the file when the worker stops."""
        if self._file < 0:
            return
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()  # unless another worker has a file there
        os.close(self._file)
        self._file = -1


@dataclass(frozen=True, slots=True)
class Liveness:
    """When a worker process that has not ended last touched its file."""

    pid: int
    seconds: float

    @property
    def is_alive(self) -> bool:
        """Whether it still touches its file; a process that is stopped or hangs does not."""
        return self.seconds < SILENT

    def __str__(self) -> str:
        state = "alive" if self.is_alive else "silent, it is stopped or hangs"
        return f"worker {self.pid}: {state}; last heartbeat {max(self.seconds, 0):.0f} s ago"


def read_liveness() -> Iterator[Liveness]:
    """Read the heartbeats of the workers started on this host, in this directory, that have not ended."""
    prefix = f"{socket.gethostname()}-"
    for path in sorted(heartbeat_folder().glob(f"{prefix}*")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _is_locked(file.fileno()):
                yield Liveness(int(path.name.removeprefix(prefix)), time.time() - os.fstat(file.fileno()).st_mtime)
            else:
                path.unlink(missing_ok=True)


def heartbeat_folder() -> Path:
    """Return the folder of the files of this user's workers in this working directory."""
    place = hashlib.sha256(f"{os.getuid()} {Path.cwd()}".encode(errors="surrogateescape")).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"replicate-batch-workers-{place}")


def _open_locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
