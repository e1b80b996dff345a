"""The last events of a batch: what is known of them is not read again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from redis.exceptions import RedisError

from jobs.batch_folder.folder import Folder
from jobs.events.event import Event, read_events
from jobs.events.log import read
from jobs.redis_client.resilience import Redis

MOST = 50
WHOLE_EVERY = 60.0
"""Seconds after which all of Redis's log is read again: its two streams may have clocks that differ."""


class EventLog:
    """The last events of one batch, from Redis and from its folder."""

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}
        self._file: tuple[int, int, int] | None = None
        self._read_all_at = -WHOLE_EVERY

    async def last(self, folder: Folder, redis: Redis | None) -> list[Event]:
        """The last events, newest first; while Redis is away those that are known, and those of the folder."""
        found = await self._from_folder(folder)
        if redis is not None:
            with suppress(RedisError):
                found += await self._from_redis(folder.batch, redis)
        known = {**self._events, **{event.id: event for event in found}}
        last = sorted(known.values(), key=lambda event: event.at)[-MOST:]  # those of one millisecond stay in order
        self._events = {event.id: event for event in last}
        return last[::-1]

    async def _from_folder(self, folder: Folder) -> list[Event]:
        """All events of the folder's file, if it is another one than before: it is only replaced as a whole."""
        mark = await asyncio.to_thread(_mark, folder)
        if mark == self._file:
            return []
        self._file = mark
        return await asyncio.to_thread(read_events, folder)

    async def _from_redis(self, batch: str, redis: Redis) -> list[Event]:
        now = time.monotonic()
        if now - self._read_all_at >= WHOLE_EVERY:
            found = await read(redis, batch)
            self._read_all_at = now
            return found
        return await read(redis, batch, max((event.seconds for event in self._events.values()), default=0.0))


def _mark(folder: Folder) -> tuple[int, int, int] | None:
    try:
        seen = folder.events.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
