"""The stores of all batches that somebody looks at: opened when needed, closed when nobody looks any more."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from redis.exceptions import RedisError

from jobs.batch_folder.folder import Folder
from jobs.dashboard.index.event_log import EventLog
from jobs.dashboard.index.filling import Filling, fill_reviews
from jobs.dashboard.index.store import Store
from jobs.dashboard.index.unused import remove_unused
from jobs.errors import BatchNotFound, StorageError
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits

Answer = TypeVar("Answer")

MOST_OPEN = 20
"""Stores that stay open while nobody uses them; one costs a file descriptor and two megabytes."""

FRESH = 0.5
"""Seconds for which a store is up to date, however many pages ask."""

CLEAN_EVERY = 3600.0
"""Seconds after which stores are looked for whose batches are gone."""


@dataclass(slots=True, eq=False)
class Opened:
    """An open store, whether everything known is in it, how many use it, and the batch's last events."""

    store: Store
    folder: Folder
    filling: Filling
    events: EventLog = field(default_factory=EventLog)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_whole: bool = False
    filled_at: float = -FRESH
    users: int = 0

    async def refresh_reviews(self) -> None:
        """Read the reviews that were just added."""
        async with self.lock:
            await asyncio.to_thread(fill_reviews, self.store, self.folder)


class Indexes:
    """The stores below one directory; a directory that cannot be written is replaced by a temporary one."""

    def __init__(self, directory: Path, output_dir: Path, redis: Redis) -> None:
        self._directory, self._output_dir, self._redis = directory, output_dir, redis
        self._opened: dict[str, Opened] = {}
        self._opening = asyncio.Lock()
        self._cleaned_at = -CLEAN_EVERY
        self._broken = set[str]()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @asynccontextmanager
    async def use(self, batch: str) -> AsyncIterator[Opened]:
        """The store of a batch, brought up to date, open in the block; BatchNotFound without its folder, StorageError.

        What SQLite refuses (a full disk, a damaged file) is a StorageError, also in the block; the next use has a
        temporary file.
        """
        opened = await self._acquire(batch)
        try:
            await self._fill(opened)
            yield opened
        except sqlite3.Error as error:
            self._broken |= {key for key, one in self._opened.items() if one is opened}
            self._opened = {key: one for key, one in self._opened.items() if one is not opened}
            path = self._directory
            message = f"what the dashboard keeps in {path.absolute()} cannot be used: {error}; it may be deleted"
            raise StorageError(message, path) from error
        finally:
            self._release(opened)

    async def ask(self, batch: str, question: Callable[[Store], Answer]) -> Answer:
        """The answer of a batch's store, brought up to date before."""
        async with self.use(batch) as opened:
            return await asyncio.to_thread(question, opened.store)

    def close(self) -> None:
        """Close all."""
        for opened in self._opened.values():
            opened.store.close()
        self._opened.clear()
        if self._temporary:
            self._temporary.cleanup()

    async def _acquire(self, batch: str) -> Opened:
        folder = Folder(self._output_dir, batch)
        batch_id = await asyncio.to_thread(folder.batch_id)
        if batch_id is None:
            raise BatchNotFound(f"{folder.path} is not the folder of a batch")
        async with self._opening:
            if (opened := self._opened.pop(batch_id, None)) is None:
                opened = await asyncio.to_thread(self._open, batch_id, folder)
            self._opened[batch_id] = opened  # in the order in which they were looked at
            opened.users += 1
        return opened

    def _release(self, opened: Opened) -> None:
        """Close what nobody uses: of too many the ones that nobody has looked at for longest, and what failed."""
        opened.users -= 1
        unused = [key for key, one in self._opened.items() if not one.users]
        for key in unused[: max(len(self._opened) - MOST_OPEN, 0)]:
            self._opened.pop(key).store.close()
        if not opened.users and opened not in self._opened.values():
            opened.store.close()

    async def _fill(self, opened: Opened) -> None:
        async with opened.lock:
            if time.monotonic() - opened.filled_at >= FRESH:
                settled = await self._settled(opened.folder.batch)
                opened.is_whole = await asyncio.to_thread(opened.filling.fill, settled)
                opened.filled_at = time.monotonic()

    async def _settled(self, batch: str) -> Bits | None:
        """The bitmap; None when Redis has forgotten the batch; of no prompt while Redis is away."""
        try:
            return await Batches(self._redis).find_settled(batch)
        except RedisError:
            return Bits(b"")

    def _open(self, batch_id: str, folder: Folder) -> Opened:
        if time.monotonic() - self._cleaned_at >= CLEAN_EVERY:
            self._cleaned_at = time.monotonic()
            remove_unused(self._directory, self._output_dir, time.time())
        store = self._open_store(batch_id)
        return Opened(store, folder, Filling(store, folder))

    def _open_store(self, batch_id: str) -> Store:
        path = self._directory / f"{batch_id}.sqlite"
        if batch_id not in self._broken:
            with suppress(OSError, sqlite3.Error):
                self._directory.mkdir(parents=True, exist_ok=True)
                return Store(path, batch_id)
            with suppress(OSError, sqlite3.Error):  # it is damaged
                path.unlink()
                return Store(path, batch_id)
        self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="replicate-batch-")
        return Store(Path(self._temporary.name) / path.name, batch_id)
