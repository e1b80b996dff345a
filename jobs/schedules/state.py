"""What Redis knows of the schedules: what each has fired and missed, and what is wrong with their file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from pydantic import BaseModel

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

KEEP_FIRED = 30 * 86_400
KEPT_MISSES = 5
SHOWN_SECONDS = 7 * 86_400
"""How long `status` and doctor show a miss, so that people who look once a week see it."""

TROUBLE_TTL = 30
"""Seconds that a wrong file is shown unless a worker reports it again."""


class Miss(BaseModel):
    """A fire time (Unix seconds) whose batch was not enqueued, and why."""

    due: int
    batch: str
    reason: str


class ScheduleState(BaseModel):
    """One schedule; times are Unix seconds.

    `seen` is when a worker first saw it with these `times`; `firing` is being fired, as `batch`, and `error` says why
    it is not done yet; `due` is done; `fired` is the last batch that was enqueued.
    """

    times: str
    seen: float
    firing: int | None = None
    due: int | None = None
    batch: str | None = None
    error: str | None = None
    fired: str | None = None
    misses: tuple[Miss, ...] = ()

    @property
    def last_batch(self) -> str | None:
        """The last batch that was enqueued; an earlier version kept it only as `batch`."""
        return self.fired or (self.batch if self.firing is None else None)

    def with_miss(self, due: int, batch: str, reason: str) -> Self:
        """The same with one more miss; the latest ones are kept."""
        misses = (*self.misses, Miss(due=due, batch=batch, reason=reason))[-KEPT_MISSES:]
        return self.model_copy(update={"misses": misses})

    def warnings(self, now: float) -> Iterator[str]:
        """What recently went wrong, in sentences: a fire time that is not enqueued yet, and the last miss."""
        if self.firing is not None and self.error and now - self.firing < SHOWN_SECONDS:
            yield f"{self.batch} is not enqueued yet: {_brief(self.error)}"
        recent = [miss for miss in self.misses if now - miss.due < SHOWN_SECONDS]
        if recent:
            before = f"; {len(recent) - 1} more before it" if len(recent) > 1 else ""
            yield f"{recent[-1].batch} was missed: {_brief(recent[-1].reason)}{before}"


class ScheduleStates:
    """The states of one API host."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis, self._api_host = redis, api_host

    async def read(self, names: Iterable[str]) -> list[ScheduleState | None]:
        """The states of these schedules; None for one that no worker has seen."""
        if not (wanted := list(names)):
            return []
        rows = await self._redis.hmget(keys.schedules(self._api_host), wanted)
        return [ScheduleState.model_validate_json(row) if row else None for row in rows]

    async def save(self, name: str, state: ScheduleState) -> None:
        """Save a schedule's state."""
        await self._redis.hset(keys.schedules(self._api_host), name, state.model_dump_json())

    async def acquire(self, name: str, due: int, batch: str, seconds: int) -> bool:
        """Acquire a fire time for so many seconds; False when somebody has it."""
        return bool(await self._redis.set(keys.schedule(self._api_host, name, due), batch, nx=True, ex=seconds))

    async def renew(self, name: str, due: int, seconds: int) -> None:
        """Keep a fire time for so many seconds more."""
        await self._redis.expire(keys.schedule(self._api_host, name, due), seconds)

    async def finish(self, name: str, due: int, state: ScheduleState) -> None:
        """Save the state of a schedule that is done with a fire time, which nobody can acquire again."""
        done = state.model_copy(update={"firing": None, "due": due})
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.expire(keys.schedule(self._api_host, name, due), KEEP_FIRED)
            pipe.hset(keys.schedules(self._api_host), name, done.model_dump_json())
            await pipe.execute()

    async def report_trouble(self, reason: str) -> None:
        """Let `status` show what is wrong with schedules.toml; expires unless it is reported again."""
        await self._redis.set(keys.schedule_trouble(self._api_host), reason, ex=TROUBLE_TTL)

    async def clear_trouble(self) -> None:
        """Clear it: the file is right again."""
        await self._redis.delete(keys.schedule_trouble(self._api_host))

    async def warnings(self, now: float) -> list[str]:
        """What `status` shows of schedules: what is wrong with their file, and recent misses."""
        trouble = await self._redis.get(keys.schedule_trouble(self._api_host))
        rows = await self._redis.hvals(keys.schedules(self._api_host))
        found = [f"Schedules: {_brief(trouble.decode())}"] if trouble else []
        found += [f"Schedules: {text}" for row in rows for text in ScheduleState.model_validate_json(row).warnings(now)]
        return [*found, "`python -m jobs schedules` says more."] if found else []


def _brief(reason: str) -> str:
    """A reason in one line: of a list of errors, its head and the first."""
    lines = [line.strip() for line in reason.splitlines()]
    return "; ".join(lines[:2]) + (" …" if len(lines) > 2 else "")
