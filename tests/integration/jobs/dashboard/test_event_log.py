from __future__ import annotations

import os
from typing import Any

from jobs.dashboard.index.event_log import EventLog
from jobs.events.event import Event, keep_events
from jobs.events.log import read, record
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis


async def test_only_what_is_new_is_read(night: Any, redis: Redis) -> None:
    log = EventLog()
    await record(redis, "night", Event(event="enqueued"))
    await record(redis, "night", Event(event="limits"))
    assert [event.event for event in await log.last(night.folder, redis)] == ["limits", "enqueued"]
    first, _ = await redis.xrange(keys.events("night"))
    await redis.xdel(keys.events("night"), first[0])
    await record(redis, "night", Event(event="paused"))
    assert [event.event for event in await log.last(night.folder, redis)] == ["paused", "limits", "enqueued"]


async def test_the_file_is_read_when_another_one_takes_its_place(night: Any, redis: Redis) -> None:
    log = EventLog()
    await record(redis, "night", Event(event="enqueued"))
    (enqueued,) = await read(redis, "night")
    assert await log.last(night.folder, None) == []
    keep_events(night.folder, [enqueued], fsync=False)
    assert await log.last(night.folder, None) == [enqueued]
    seen = night.folder.events.stat()
    night.folder.events.write_bytes(b"x" * seen.st_size)
    os.utime(night.folder.events, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert await log.last(night.folder, redis) == [enqueued], "it is not read again"
    keep_events(night.folder, [Event(id="9", at="2099-01-01T00:00:00.000Z", event="finished")], fsync=False)
    assert [event.event for event in await log.last(night.folder, None)] == ["finished", "enqueued"]


async def test_events_of_one_millisecond_stay_in_order(night: Any) -> None:
    log, at = EventLog(), "2026-01-01T00:00:00.000Z"
    events = [Event(id=f"5-{number}", at=at, event=name) for number, name in enumerate(("enqueued", "paused"))]
    keep_events(night.folder, events, fsync=False)
    for _ in range(2):
        assert [event.event for event in await log.last(night.folder, None)] == ["paused", "enqueued"]
