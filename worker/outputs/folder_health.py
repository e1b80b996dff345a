"""The batches' folders as this worker finds them: which it has seen, which are in use, which cannot be written.

While saving fails in a folder, one prompt after the other tries it, not all at once: each try may be a whole download.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobs.batch_folder.folder import SAVING, Folder
from jobs.errors import LostFolder, StorageError
from worker.backoff import Backoff

PROBE_PAUSE = Backoff(base=0.5, cap=5.0)
"""Between two probes of a folder in which saving fails."""

PROBE_SECONDS = 30.0
"""Seconds after which the next prompt may probe, too."""

OF_ONE_FOLDER = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EFBIG,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EINVAL,
    }
)
"""Errors that concern one folder or file. All others, such as a full disk, may be true of every folder."""

SWEPT = "-swept"
"""The end of the name of a folder that is being deleted."""


@dataclass(slots=True, eq=False)
class Trouble:
    """What the disk said last in a folder, how often in a row, and whose turn it is to probe.

    `alone`: it is this folder's own, and the others are well.
    """

    reason: str
    alone: bool = False
    failures: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class FolderHealth:
    """All folders of one worker."""

    def __init__(self, jitter: Callable[[], float] = random.random, probe_seconds: float = PROBE_SECONDS) -> None:
        self._jitter = jitter
        self._probe_seconds = probe_seconds
        self.seen: set[str] = set()
        """Ids of batches whose folder was there: when it is gone, it may come back."""
        self.unseen: set[str] = set()
        """Ids of batches whose folder was looked for in vain."""
        self._used: Counter[tuple[Folder, str]] = Counter()
        self._saving: Counter[Path] = Counter()
        self._troubles: dict[Path, Trouble] = {}
        self._write_problems: dict[Path, str] = {}

    @contextmanager
    def using(self, folder: Folder, batch_id: str) -> Iterator[None]:
        """A shard of the batch runs in the block: its folder is checked regularly."""
        self._used[folder, batch_id] += 1
        try:
            yield
        finally:
            self._used[folder, batch_id] -= 1
            self._used += Counter()  # drops what nobody uses

    @contextmanager
    def saving(self, path: Path) -> Iterator[None]:
        """A prompt is saved in the block; a trouble is forgotten with the last that has it."""
        self._saving[path] += 1
        try:
            yield
        finally:
            self._saving[path] -= 1
            if not self._saving[path]:
                del self._saving[path]
                self._troubles.pop(path, None)

    @asynccontextmanager
    async def probe(self, path: Path) -> AsyncIterator[None]:
        """Save in the block: all at once, but one after the other, with pauses, while saving fails in the folder."""
        while trouble := self._troubles.get(path):
            async with _hold(trouble.turn, self._probe_seconds):
                if self._troubles.get(path) is trouble:
                    await asyncio.sleep(PROBE_PAUSE.delay(trouble.failures, self._jitter))
                    yield
                    return
        yield

    def failed(self, path: Path, reason: str, *, alone: bool = False) -> None:
        """Saving failed; `alone`: for a reason that is this folder's own."""
        trouble = self._troubles.setdefault(path, Trouble(reason))
        trouble.reason, trouble.alone, trouble.failures = reason, alone, trouble.failures + 1

    def succeeded(self, path: Path) -> None:
        """Saving worked: all may go on."""
        self._troubles.pop(path, None)

    async def look(self) -> None:
        """Check whether the folders in use can still be written."""
        self._write_problems = await asyncio.to_thread(_find_problems, list(self._used)) if self._used else {}

    def disk_trouble(self) -> str | None:
        """Why nothing can be saved in any folder, as the disk said last."""
        return next((trouble.reason for trouble in self._troubles.values() if not trouble.alone), None)

    def own_troubles(self) -> dict[Path, str]:
        """Why nothing can be saved in single folders."""
        alone = {path: trouble.reason for path, trouble in self._troubles.items() if trouble.alone}
        return self._write_problems | alone

    def own_trouble(self, path: Path) -> str | None:
        """Why nothing can be saved in this folder, when others can be written."""
        trouble = self._troubles.get(path)
        return trouble.reason if trouble and trouble.alone else self._write_problems.get(path)


def is_of_one_folder(error: StorageError | OSError) -> bool:
    """Whether the reason is the folder's own, so that others can go on."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(error, LostFolder) or not isinstance(cause, OSError) or cause.errno in OF_ONE_FOLDER


@asynccontextmanager
async def _hold(turn: asyncio.Lock, seconds: float) -> AsyncIterator[None]:
    """Hold a lock for so many seconds at most: one slow download must not keep all others from trying."""
    await turn.acquire()
    with ExitStack() as held:
        held.callback(turn.release)
        timer = asyncio.get_running_loop().call_later(seconds, held.close)
        held.callback(timer.cancel)
        yield


def write_problem(folder: Folder, batch_id: str) -> str | None:
    """Why nothing can be saved in the batch's folder; None when it can, as far as can be seen."""
    try:
        folder.check(batch_id)
    except LostFolder as error:
        return str(error)
    if not os.access(folder.path, os.W_OK | os.X_OK):
        return f"{folder.path} is not writable; make it so, or correct BATCH_OUTPUT_DIR"
    return None


def _find_problems(used: list[tuple[Folder, str]]) -> dict[Path, str]:
    looked = ((folder.path, write_problem(folder, batch_id)) for folder, batch_id in used)
    return {path: reason for path, reason in looked if reason}


def sweep(folder: Folder, obsolete: Callable[[str], bool]) -> None:
    """Delete what killed runs have left below `.saving` of the prompts that `obsolete` names by their ids.

    Each is renamed first: a stalled run that still commits it has committed all of it, or nothing.
    """
    with suppress(OSError), os.scandir(folder.path / SAVING) as entries:
        for entry in entries:
            if obsolete(entry.name.rpartition(".")[0]):
                swept = f"{entry.path}{SWEPT}" if not entry.name.endswith(SWEPT) else entry.path
                with suppress(OSError):
                    Path(entry.path).rename(swept)
                    shutil.rmtree(swept, ignore_errors=True)
    with suppress(OSError):  # somebody saves, or there is none
        (folder.path / SAVING).rmdir()
