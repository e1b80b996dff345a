"""What people did to batches from the dashboard: when, from where, to what, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.wire import timestamp

KEPT = 1_000
"""Actions that are remembered."""


class Action(BaseModel):
    """One action; `at` is RFC 3339, UTC, `who` the address and session it came from, `outcome` a sentence."""

    at: str
    who: str
    name: str
    batch: str = ""
    outcome: str = ""


class ActionLog:
    """The actions of one API host."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis, self._key = redis, keys.actions(api_host)

    async def record(self, who: str, name: str, batch: str, outcome: str) -> None:
        """Remember an action; the oldest one gives way."""
        action = Action(at=timestamp(), who=who, name=name, batch=batch, outcome=outcome)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.lpush(self._key, action.model_dump_json())
            pipe.ltrim(self._key, 0, KEPT - 1)
            await pipe.execute()

    async def last(self, most: int = 20, batch: str = "") -> list[Action]:
        """The last actions, of one batch or of all, newest first."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lrange(self._key, 0, KEPT - 1 if batch else most - 1)
            (rows,) = await pipe.execute()
        found = _parse(rows)
        return [action for action in found if not batch or action.batch == batch][:most]


def _parse(rows: Iterable[bytes]) -> list[Action]:
    found = []
    for row in rows:
        try:
            found.append(Action.model_validate_json(row))
        except ValidationError:
            continue
    return found
