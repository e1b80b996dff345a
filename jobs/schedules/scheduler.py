"""Schedules → batches: enqueues each batch that is due once, even if workers crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from jobs.batch_folder.folder import Folder
from jobs.budget import Budget
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, complete, enqueue, ignore_progress
from jobs.enqueue.estimate import Confirm, Costs
from jobs.errors import InputError, PriceError, ScheduleError, StorageError
from jobs.notify.conditions import missed_event, wrong_schedules_event
from jobs.notify.event import Event
from jobs.prices.money import MICRO, dollars, money
from jobs.redis_client.resilience import Redis
from jobs.schedules import cron as fire_times
from jobs.schedules.file import Schedule, WrongSchedule, describe, load
from jobs.schedules.state import Miss, ScheduleState, ScheduleStates
from jobs.state.batches import Batches

logger = logging.getLogger(__name__)

RECENT = 60
"""Without catch_up, a fire time counts for so many seconds: long enough for a busy or restarting worker."""
FIRING = 30
"""Seconds that a fire time belongs to a worker that may have died; a live one renews it."""


class ScheduleMiss(BaseModel):
    """A fire time, RFC 3339 in its schedule's zone, whose batch was not enqueued."""

    time: str
    batch: str
    reason: str


class ScheduleStatus(BaseModel):
    """A schedule with its next and its last fire time, RFC 3339 in its own zone; an error is of the last one.

    `problem` is why it cannot fire at present; `misses` are the last times whose batch was not enqueued.
    """

    name: str
    cron: str
    timezone: str
    file: str
    next: str | None = None
    last: str | None = None
    last_batch: str | None = None
    last_error: str | None = None
    problem: str | None = None
    misses: list[ScheduleMiss] = []


Announce = Callable[[Event], Awaitable[None]]
"""Notifies people of an event; safe to repeat."""


async def notify_nobody(_event: Event) -> None:
    """Notify nobody."""


class Schedules:
    """All schedules of one file, fired for all workers of one Redis.

    A fire time passes through three steps, each safe to repeat: its key is taken for `firing` seconds and the
    schedule's state says `firing`; the batch is enqueued, which by its name happens once; the state says `due`.
    A worker that dies in between leaves a key that expires, and the next one to look goes on from `firing`; so does
    whoever comes after a worker that was refused, until the next time is due: then it is a miss.
    """

    def __init__(self, redis: Redis, config: Config, firing: int = FIRING, announce: Announce = notify_nobody) -> None:
        self._redis, self._config, self._firing, self._announce = redis, config, firing, announce
        self._batches = Batches(redis)
        self._states = ScheduleStates(redis, config.api_host)
        self._schedules: tuple[Schedule, ...] = ()
        self._read: tuple[int, int] | None = (0, 0)  # no file has this stamp
        self._wrong = self._unreadable = ""
        self._seen: dict[str, float] = {}

    async def fire_due(self, now: float) -> list[Receipt]:
        """Enqueue the batches whose time has come by `now` (Unix seconds) and which nobody fired yet."""
        before = self._wrong
        await asyncio.to_thread(self._reload)
        if self._wrong:
            await self._states.report_trouble(self._wrong)
            if self._wrong != before:
                await self._announce(wrong_schedules_event(self._wrong))
        elif before:
            await self._states.clear_trouble()
        states = await self._states.read(schedule.name for schedule in self._schedules)
        receipts, errors = [], []
        for schedule, state in zip(self._schedules, states, strict=True):
            try:
                receipts.append(await self._fire_if_due(schedule, state, now))
            except Exception as error:  # noqa: BLE001 - the other schedules are fired before it is raised
                errors.append(error)
        if errors:
            raise errors[0]
        return [receipt for receipt in receipts if receipt]

    async def _fire_if_due(self, schedule: Schedule, state: ScheduleState | None, now: float) -> Receipt | None:
        known = await self._remember(schedule, state, now)
        due = self._due(schedule, known, now)
        return None if due is None else await self._fire(schedule, known, due, now)

    def _reload(self) -> None:
        """Read a changed file; one that cannot be read changes nothing. What is wrong is logged once."""
        path = self._config.schedules
        stamp = _stamp(path)
        if stamp == self._read and not self._unreadable:
            return
        try:
            found = load(path)
        except ScheduleError as error:
            self._unreadable = str(error)
            stay = f"; these stay in force: {_names(self._schedules)}" if self._schedules else ""
            self._log_wrong(f"{error}{stay}")
            return
        schedules = tuple(one for one in found if isinstance(one, Schedule))
        before = {schedule.name: schedule.times for schedule in self._schedules}
        kept = {schedule.name for schedule in schedules if before.get(schedule.name) == schedule.times}
        self._seen = {name: seen for name, seen in self._seen.items() if name in kept}
        self._schedules, self._read, self._unreadable = schedules, stamp, ""
        self._log_wrong(describe(path, found))
        if schedules or before:
            logger.info("schedules: %s", _names(schedules), extra={"event": "schedules_read"})
        for schedule in schedules:
            if schedule.problem:
                wrong = {"event": "schedules_wrong"}
                logger.warning("! schedule %s: %s yet", schedule.name, schedule.problem, extra=wrong)

    def _log_wrong(self, wrong: str) -> None:
        if wrong and wrong != self._wrong:
            logger.error("! schedules: %s", wrong, extra={"event": "schedules_wrong"})
        self._wrong = wrong

    async def overview(self, now: float) -> list[ScheduleStatus]:
        """Every schedule in the file's order with its next and last time; ScheduleError."""
        found = await asyncio.to_thread(load, self._config.schedules)
        return _overview(found, await self._states.read(one.name for one in found), now)

    async def _remember(self, schedule: Schedule, state: ScheduleState | None, now: float) -> ScheduleState:
        """Remember since when the schedule exists: it never fires for a time before that.

        Once a process has seen it, another worker with an older or newer file does not change that.
        """
        if state and (state.times == schedule.times or schedule.name in self._seen):
            self._seen.setdefault(schedule.name, state.seen)
            return state
        self._seen[schedule.name] = now
        known = state or ScheduleState(times=schedule.times, seen=now)
        known = known.model_copy(update={"times": schedule.times, "seen": now})
        await self._states.save(schedule.name, known)
        return known

    def _due(self, schedule: Schedule, state: ScheduleState, now: float) -> int | None:
        """The time to fire for: one that was started, else the last one that is not done."""
        last = fire_times.last_fire(schedule.cron, schedule.zone, now)
        if last is not None and (last < self._seen[schedule.name] or last <= (state.due or 0)):
            last = None
        if state.firing is not None and (last is None or last <= state.firing or not self._is_refused(state)):
            return state.firing
        return None if last is None else int(last)

    def _is_refused(self, state: ScheduleState) -> bool:
        """Whether a started batch was refused and has no copy yet; one with a copy has to be completed."""
        return bool(state.error) and not Folder(self._config.output_dir, state.batch or "").prompts.exists()

    async def _fire(self, schedule: Schedule, state: ScheduleState, due: int, now: float) -> Receipt | None:
        started = state if state.firing == due else _start_firing(schedule, state, due)
        batch = started.batch or ""
        if started.misses != state.misses:
            await self._announce_miss(schedule, started.misses[-1])
        if not await self._states.acquire(schedule.name, due, batch, self._firing):
            return None
        if started is not state and (reason := await self._skip_reason(schedule, state, now - due)):
            await self._skip(schedule, started, reason)
            return None
        await self._states.save(schedule.name, started)
        try:
            async with self._renewed(schedule.name, due):
                receipt = await self._enqueue(schedule, batch)
        except (InputError, StorageError) as error:
            if str(error) != started.error:
                logger.error(  # noqa: TRY400 - a traceback would add nothing
                    "! schedule %s: %s; %s is retried until the next time is due",
                    schedule.name,
                    error,
                    batch,
                    extra={"event": "schedule_retried", "batch": batch},
                )
                await self._announce(missed_event(schedule.name, due, batch, str(error), again=True))
            await self._states.save(schedule.name, started.model_copy(update={"error": str(error)}))
            return None
        done = started.model_copy(update={"error": None, "fired": batch})
        await self._states.finish(schedule.name, due, done)
        return receipt

    async def _skip_reason(self, schedule: Schedule, state: ScheduleState, late: float) -> str | None:
        """Why a fire time is skipped: the last batch still runs, or the time is past and catch_up is off."""
        if late > RECENT and not schedule.catch_up:
            return "no worker was up in time, and catch_up is false"
        running = await self._unfinished_batch(schedule, state)
        return running and f"{running} was not finished"

    async def _skip(self, schedule: Schedule, started: ScheduleState, reason: str) -> None:
        due, batch = started.firing or 0, started.batch or ""
        facts = {"event": "schedule_skipped", "batch": batch}
        logger.warning("schedule %s: %s is skipped: %s", schedule.name, batch, reason, extra=facts)
        update = {"batch": started.fired, "error": f"{batch} was skipped: {reason}"}
        skipped = started.with_miss(due, batch, reason).model_copy(update=update)
        await self._announce_miss(schedule, skipped.misses[-1])
        await self._states.finish(schedule.name, due, skipped)

    async def _announce_miss(self, schedule: Schedule, miss: Miss) -> None:
        await self._announce(missed_event(schedule.name, miss.due, miss.batch, miss.reason, again=False))

    async def _enqueue(self, schedule: Schedule, name: str) -> Receipt:
        """Enqueue a batch; one that was begun is completed from its own copy, not from the file."""
        order = Order(
            source=str(schedule.file),
            name=name,
            model=schedule.model,
            expansion=schedule.expansion,
            budget=Budget(schedule.max_predictions, schedule.max_cost, schedule.max_in_flight),
            append=True,
            model_check=schedule.model_check,
            allow_unknown=schedule.allow_unknown,
            copy_inputs=schedule.copy_inputs,
            keep_uploads=schedule.keep_uploads,
        )
        if Folder(self._config.output_dir, name).prompts.exists():
            return await complete(replace(order, copy_inputs=False), self._config, self._redis)
        confirm = _refuse_above(schedule.confirm_above)
        return await enqueue(order, self._config, self._redis, ignore_progress, confirm)

    async def _unfinished_batch(self, schedule: Schedule, state: ScheduleState) -> str | None:
        if schedule.overlap == "allow" or state.last_batch is None:
            return None
        batch = await self._batches.find(state.last_batch)
        return batch.name if batch and batch.finished_at is None else None

    @asynccontextmanager
    async def _renewed(self, name: str, due: int) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(self._firing / 3)
                await self._states.renew(name, due, self._firing)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _refuse_above(micro: int | None) -> Confirm | None:
    """What refuses a batch that may cost more, or when that is not known: nobody can be asked."""
    if micro is None:
        return None

    def confirm(costs: Costs) -> None:
        if costs.most is None or round(costs.most * MICRO) > micro:
            most = "an amount that is not known" if costs.most is None else f"up to {money(costs.most)}"
            raise PriceError(f"it may cost {most}, and its confirm_above is {money(dollars(micro))}")

    return confirm


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file does; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _names(schedules: tuple[Schedule, ...]) -> str:
    return ", ".join(schedule.name for schedule in schedules) or "none"


def _start_firing(schedule: Schedule, state: ScheduleState, due: int) -> ScheduleState:
    """The state in which a fire time is started; an earlier one that was started and not done is a miss."""
    known = state
    if state.firing is not None:
        known = state.with_miss(state.firing, state.batch or "", state.error or "it was not done in time")
    batch = f"{schedule.name}-{fire_times.label(due, schedule.zone)}"
    return known.model_copy(update={"firing": due, "batch": batch, "error": None, "fired": state.last_batch})


def overview_without_redis(config: Config, now: float) -> list[ScheduleStatus]:
    """Every schedule of the file, where no Redis has ever run that would know when it fired; ScheduleError."""
    found = load(config.schedules)
    return _overview(found, [None] * len(found), now)


def _overview(
    found: Sequence[Schedule | WrongSchedule], states: Sequence[ScheduleState | None], now: float
) -> list[ScheduleStatus]:
    return [
        _status(one, state, now) if isinstance(one, Schedule) else _wrong_status(one)
        for one, state in zip(found, states, strict=True)
    ]


def _status(schedule: Schedule, state: ScheduleState | None, now: float) -> ScheduleStatus:
    following = fire_times.next_fire(schedule.cron, schedule.zone, now)
    known = state or ScheduleState(times=schedule.times, seen=now)
    return ScheduleStatus(
        name=schedule.name,
        cron=schedule.cron,
        timezone=str(schedule.zone),
        file=str(schedule.file),
        next=fire_times.shown(following, schedule.zone),
        last=fire_times.shown(known.due, schedule.zone),
        last_batch=known.last_batch,
        last_error=known.error,
        problem=schedule.problem,
        misses=[
            ScheduleMiss(time=fire_times.shown(miss.due, schedule.zone) or "", batch=miss.batch, reason=miss.reason)
            for miss in known.misses
        ],
    )


def _wrong_status(wrong: WrongSchedule) -> ScheduleStatus:
    problem = "; ".join(str(problem) for problem in wrong.problems)
    return ScheduleStatus(name=wrong.name, cron=wrong.cron, timezone=wrong.timezone, file=wrong.file, problem=problem)
