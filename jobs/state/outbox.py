"""The outbox of notifications in Redis: each event once, and a delivery of it for each receiver until that has it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.client import Pipeline

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis

KEEP_EVENT = 7 * 86_400
"""Seconds in which an event of the same id is no news."""

SAME_EPISODE = 3600
"""Seconds that a condition must have been over before it is news again."""

KEPT_RECORDS = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process has to make now; `tries` counts this one."""

    delivery: str
    event: str
    tries: int

    @property
    def receiver(self) -> str:
        """The name of its receiver."""
        return self.delivery.partition("/")[0]


class Outbox:
    """The events and deliveries of one API host."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis, self._api_host = redis, api_host

    async def post(self, event_id: str, event: str, receivers: Sequence[str]) -> bool:
        """Write an event and its deliveries, unless it was posted before; True when it is new."""
        return bool(await self._call("post", event_id, event, KEEP_EVENT, "", *receivers))

    async def post_if_finished(
        self, pipe: Pipeline, event_id: str, event: str, receivers: Sequence[str], finished: tuple[str, float]
    ) -> None:
        """Do the same on `pipe`, in whose transaction the batch of that name is finished at that time, if it is."""
        batch, finished_at = finished
        names = [*self._keys(event_id), keys.batch(batch)]
        args: list[str | float] = ["post", event, KEEP_EVENT, finished_at, *receivers]
        await load_script(self._redis, __name__)(keys=names, args=args, client=pipe)

    async def due(self, receivers: Collection[str]) -> list[str]:
        """The deliveries to these receivers that are due now, the oldest first."""
        return [one for one, left in (await self.waiting()).items() if left <= 0 and _receiver(one) in receivers]

    async def waiting(self) -> dict[str, float]:
        """All deliveries that were not made yet, the oldest first, with the seconds until each is due."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys.deliveries(self._api_host), 0, -1, withscores=True)
            (seconds, micros), found = await pipe.execute()
        return {delivery.decode(): when - seconds - micros / 1e6 for delivery, when in found}

    async def claim(self, delivery: str, seconds: float) -> Claim | None:
        """Claim a delivery for so many seconds: if this process dies, another makes it after that. None: not due."""
        tries, event = await self._call("claim", _event_id(delivery), delivery, seconds)
        return Claim(delivery, event.decode(), int(tries)) if tries else None

    async def end(self, delivery: str, record: dict[str, Any]) -> None:
        """Take a delivery out, made or given up, and record how its last try ended."""
        await self._call("end", _event_id(delivery), delivery, json.dumps(record), KEPT_RECORDS)

    async def postpone(self, delivery: str, record: dict[str, Any], seconds: float) -> None:
        """Let a delivery be due again after so many seconds, and record how its try ended."""
        await self._call("postpone", _event_id(delivery), delivery, json.dumps(record), KEPT_RECORDS, seconds)

    async def records(self) -> list[dict[str, Any]]:
        """How the last tries ended, newest first."""
        found: list[bytes] = await self._redis.lrange(keys.delivery_log(self._api_host), 0, -1)  # type: ignore[misc]
        return [json.loads(record) for record in found]

    async def begin_episode(self, condition: str) -> int:
        """Since when a condition lasts that is seen now, Unix seconds: short breaks do not end it."""
        key = keys.episode(self._api_host, condition)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, int(time.time()), nx=True)
            pipe.expire(key, SAME_EPISODE)
            pipe.get(key)
            since = (await pipe.execute())[-1]
        return int(since)

    async def silence(self, receiver: str, mark: str) -> None:
        """Deliver nothing more to a receiver that said so, while it has this mark."""
        await self._redis.hset(keys.silenced(self._api_host), receiver, mark)

    async def unsilence(self, receiver: str) -> None:
        """Deliver to it again."""
        await self._redis.hdel(keys.silenced(self._api_host), receiver)

    async def silenced(self) -> dict[str, str]:
        """The receivers that want nothing any more, with the marks that they had."""
        found = await self._redis.hgetall(keys.silenced(self._api_host))
        return {receiver.decode(): mark.decode() for receiver, mark in found.items()}

    def _keys(self, event_id: str) -> list[str]:
        host = self._api_host
        return [keys.event(host, event_id), keys.deliveries(host), keys.delivery_tries(host), keys.delivery_log(host)]

    async def _call(self, op: str, event_id: str, *args: str | float) -> Any:
        return await load_script(self._redis, __name__)(keys=self._keys(event_id), args=[op, *args])


def _receiver(delivery: str) -> str:
    return delivery.partition("/")[0]


def _event_id(delivery: str) -> str:
    return delivery.partition("/")[2]
