"""The log of a batch's events in Redis: bounded, and written beside what happens, so that it holds nothing up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from pydantic import ValidationError
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from jobs.events.event import Event
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.wire import timestamp

MOST = 1_000
"""Events of a batch that Redis keeps, and as many failures: those do not push the others out."""

KEEP = 30 * 86_400
"""Seconds that a batch's events are kept after the last of them."""


async def record(redis: Redis, batch: str, event: Event) -> None:
    """Add an event to a batch's log; an error of Redis is ignored, as what happened counts more than its log."""
    with suppress(RedisError):
        async with redis.pipeline(transaction=False) as pipe:
            _add(pipe, batch, event)
            await pipe.execute()


async def record_in_all(redis: Redis, api_host: str, event: Event) -> None:
    """Add an event to the logs of all unfinished batches of an API host; an error of Redis is ignored."""
    with suppress(RedisError):
        batches = [batch async for batch in _unfinished(redis, api_host)]
        async with redis.pipeline(transaction=False) as pipe:
            for batch in batches:
                _add(pipe, batch, event)
            await pipe.execute()


async def read(redis: Redis, batch: str, since: float = 0.0) -> list[Event]:
    """The events of a batch since that time (Unix seconds), oldest first.

    The ids of events differ: who follows a log asks again with the time of the last one, and skips what is known.
    """
    start = str(max(int(since * 1000), 0))
    async with redis.pipeline(transaction=False) as pipe:
        pipe.xrange(keys.events(batch), min=start)
        pipe.xrange(keys.failures(batch), min=start)
        logs = await pipe.execute()
    found = [
        event
        for log, mark in zip(logs, ("", "f"), strict=True)
        for number, fields in log
        if (event := _parse(number.decode(), mark, fields.get(b"event", b"")))
    ]
    return sorted(found, key=lambda event: event.at)


def _parse(number: str, mark: str, text: bytes) -> Event | None:
    """An event by its number in the stream; None for one that a newer version wrote."""
    try:
        event = Event.model_validate_json(text)
    except ValidationError:
        return None
    return event.model_copy(update={"id": number + mark, "at": timestamp(int(number.partition("-")[0]) / 1000)})


def _add(pipe: Pipeline, batch: str, event: Event) -> None:
    pipe.xadd(keys.events(batch), {"event": event.text}, maxlen=MOST, approximate=True)
    pipe.expire(keys.events(batch), KEEP)


async def _unfinished(redis: Redis, api_host: str) -> AsyncIterator[str]:
    names = [name.decode() for name in await redis.zrange(keys.BATCHES, 0, -1)]
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(keys.batch(name), ["realm", "finished_at"])
        for name, (host, finished_at) in zip(names, await pipe.execute(), strict=True):
            if host and host.decode() == api_host and finished_at is None:
                yield name


def started(worker: str) -> Event:
    """A worker begins to work on a batch; its name is without what tells two of one process id apart."""
    return Event(event="worker_started", worker=worker.rpartition(":")[0])
