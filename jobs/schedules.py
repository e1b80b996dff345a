"""Schedules → batches: which is due, fired once for all workers, whatever crashes in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel
from redis.asyncio import Redis

from jobs import fire_times, keys
from jobs.batches import Batches
from jobs.budget import Budget
from jobs.config import Config
from jobs.enqueue import Order, Receipt, enqueue
from jobs.errors import InputError, ScheduleError, StorageError
from jobs.folder import Folder
from jobs.schedule_file import Schedule, load

__all__ = ["Schedule", "ScheduleStatus", "Schedules", "load"]

logger = logging.getLogger(__name__)

RECENT = 60
"""Without catch_up, a fire time counts for so many seconds: long enough for a busy or restarting worker."""
FIRING = 30
"""Seconds that a fire time belongs to a worker that may have died; a live one renews it."""
KEEP_FIRED = 30 * 86_400


class ScheduleStatus(BaseModel):
    """A schedule with its next and its last fire time, RFC 3339 in its own zone; an error is of the last one."""

    name: str
    cron: str
    timezone: str
    file: str
    next: str | None = None
    last: str | None = None
    last_batch: str | None = None
    last_error: str | None = None


class _State(BaseModel):
    """What Redis knows of a schedule; times are Unix seconds.

    `seen` is when a worker first saw it with these `times`; `firing` is begun, `due` is done with.
    """

    times: str
    seen: float
    firing: int | None = None
    due: int | None = None
    batch: str | None = None
    error: str | None = None


class Schedules:
    """All schedules of one file, fired for all workers of one Redis. ScheduleError when the file is wrong.

    A fire time passes through three steps, each safe to repeat: its key is taken for FIRING seconds and the
    schedule's state says `firing`; the batch is enqueued, which by its name happens once; the state says `due`.
    A worker that dies in between leaves a key that expires, and the next one to look goes on from `firing`.
    """

    def __init__(self, redis: Redis, config: Config, schedules: tuple[Schedule, ...] | None = None) -> None:
        self._redis, self._config = redis, config
        self._batches = Batches(redis)
        self._read = _stamp(config.schedules)
        self._schedules = load(config.schedules) if schedules is None else schedules
        self._refused = ""
        self._seen: dict[str, float] = {}

    async def fire_due(self, now: float) -> list[Receipt]:
        """Enqueue the batches whose time has come by `now` (Unix seconds) and which nobody fired yet."""
        await asyncio.to_thread(self._reload)
        receipts = []
        for schedule, state in await self._states():
            known = await self._see(schedule, state, now)
            due = self._due(schedule, known, now)
            if due is not None and (receipt := await self._fire(schedule, known, due)):
                receipts.append(receipt)
        return receipts

    def _reload(self) -> None:
        """Read a changed file; a wrong one changes nothing, and is said once."""
        path = self._config.schedules
        stamp = _stamp(path)
        if stamp == self._read and not self._refused:
            return
        try:
            schedules = load(path)
        except ScheduleError as error:
            if str(error) != self._refused:
                logger.error("schedules: the old ones stay: %s", error)  # noqa: TRY400 - the sentence says it all
            self._refused = str(error)
            return
        before = {schedule.name: schedule.times for schedule in self._schedules}
        kept = {schedule.name for schedule in schedules if before.get(schedule.name) == schedule.times}
        self._seen = {name: seen for name, seen in self._seen.items() if name in kept}
        self._schedules, self._read, self._refused = schedules, stamp, ""
        logger.info("schedules: %s", ", ".join(schedule.name for schedule in schedules) or "none")

    async def overview(self, now: float) -> list[ScheduleStatus]:
        """Every schedule in the file's order with its next and last time."""
        return [_status(schedule, state, now) for schedule, state in await self._states()]

    async def _states(self) -> list[tuple[Schedule, _State | None]]:
        if not self._schedules:
            return []
        names = [schedule.name for schedule in self._schedules]
        rows = await self._redis.hmget(keys.schedules(self._config.realm), names)  # type: ignore[misc]  # typed for both clients
        states = [_State.model_validate_json(row) if row else None for row in rows]
        return list(zip(self._schedules, states, strict=True))

    async def _see(self, schedule: Schedule, state: _State | None, now: float) -> _State:
        """Remember since when the schedule exists: it never fires for a time before that.

        Once a process has seen it, another worker with an older or newer file does not change that.
        """
        if state and (state.times == schedule.times or schedule.name in self._seen):
            self._seen.setdefault(schedule.name, state.seen)
            return state
        self._seen[schedule.name] = now
        known = state or _State(times=schedule.times, seen=now)
        known = known.model_copy(update={"times": schedule.times, "seen": now})
        await self._note(schedule, known)
        return known

    def _due(self, schedule: Schedule, state: _State, now: float) -> int | None:
        """The time to fire for: one that was begun, else the last one if it is neither done nor too old."""
        if state.firing is not None:
            return state.firing
        last = fire_times.last_fire(schedule.cron, schedule.zone, now)
        if last is None or last < self._seen[schedule.name] or last <= (state.due or 0):
            return None
        return int(last) if schedule.catch_up or now - last <= RECENT else None

    async def _fire(self, schedule: Schedule, state: _State, due: int) -> Receipt | None:
        key = keys.schedule(self._config.realm, schedule.name, due)
        begun = state if state.firing is not None else _begin(schedule, state, due)
        if not await self._redis.set(key, begun.batch or "", nx=True, ex=FIRING):
            return None
        done = state.model_copy(update={"firing": None, "due": due, "error": None})
        if begun is not state and (running := await self._running(schedule, state)):
            logger.warning("schedule %s: %s is passed over: %s is not finished", schedule.name, begun.batch, running)
            await self._finish(schedule, done, key, error=f"{begun.batch} was passed over: {running} was not finished")
            return None
        await self._note(schedule, begun)
        try:
            async with self._renewed(key):
                receipt = await enqueue(self._order(schedule, begun.batch or ""), self._config, self._redis)
        except InputError as error:
            logger.error("schedule %s: %s", schedule.name, error)  # noqa: TRY400 - the sentence says it all
            await self._finish(schedule, done, key, error=str(error))
            return None
        except StorageError as error:
            logger.warning("schedule %s: %s; trying on", schedule.name, error)
            await self._note(schedule, begun.model_copy(update={"error": str(error)}))
            return None
        await self._finish(schedule, done.model_copy(update={"batch": begun.batch}), key)
        return receipt

    def _order(self, schedule: Schedule, name: str) -> Order:
        """From the batch's own copy if it has one: what was begun is completed as it was, not as the file is now."""
        copy = Folder(self._config.output_dir, name).prompts
        source = copy if copy.exists() else schedule.file
        budget = Budget(schedule.max_predictions, schedule.max_cost, schedule.max_in_flight)
        return Order(source=str(source), name=name, model=schedule.model, budget=budget, append=True)

    async def _running(self, schedule: Schedule, state: _State) -> str | None:
        if schedule.overlap == "allow" or state.batch is None:
            return None
        batch = await self._batches.find(state.batch)
        return batch.name if batch and batch.finished_at is None else None

    @asynccontextmanager
    async def _renewed(self, key: str) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(FIRING / 3)
                await self._redis.expire(key, FIRING)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _finish(self, schedule: Schedule, state: _State, key: str, *, error: str | None = None) -> None:
        done = state.model_copy(update={"error": error})
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.expire(key, KEEP_FIRED)
            pipe.hset(keys.schedules(self._config.realm), schedule.name, done.model_dump_json())
            await pipe.execute()

    async def _note(self, schedule: Schedule, state: _State) -> None:
        await self._redis.hset(  # type: ignore[misc]  # typed for both clients
            keys.schedules(self._config.realm), schedule.name, state.model_dump_json()
        )


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file does; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _begin(schedule: Schedule, state: _State, due: int) -> _State:
    name = f"{schedule.name}-{fire_times.label(due, schedule.zone)}"
    return state.model_copy(update={"firing": due, "batch": name})


def _status(schedule: Schedule, state: _State | None, now: float) -> ScheduleStatus:
    following = fire_times.next_fire(schedule.cron, schedule.zone, now)
    known = state or _State(times=schedule.times, seen=now)
    return ScheduleStatus(
        name=schedule.name,
        cron=schedule.cron,
        timezone=str(schedule.zone),
        file=str(schedule.file),
        next=fire_times.shown(following, schedule.zone),
        last=fire_times.shown(known.due, schedule.zone),
        last_batch=known.batch,
        last_error=known.error,
    )
