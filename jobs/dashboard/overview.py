"""The first page: what needs a person, then all batches, workers, limits, schedules and what was done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from jobs.account.account import Account
from jobs.account.action_log import ActionLog
from jobs.account.live_workers import LiveWorker, live_workers
from jobs.config import Config
from jobs.dashboard.gallery.gallery import pictures
from jobs.dashboard.index.filters import Filter
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.live import Feeds
from jobs.dashboard.pages import Dashboard, outage, page, render
from jobs.errors import BatchError, BatchNotFound, ScheduleError
from jobs.operations.operations import Operations
from jobs.operations.report import NO_WORKER, account_pause, budget_note, unsaved_note
from jobs.schedules.scheduler import ScheduleStatus
from jobs.state.batches import Batches
from jobs.wire import NO_WORKER as NO_WORKER_REASON
from jobs.wire import Status

MOST_SHOWN = 100
"""Batches on the page: those that go on, then the newest ones."""

ACTIONS_SHOWN = 20
NEWEST_SHOWN = 12
FOLDERS_TRIED = 5
"""Batches whose folders are looked for; those of more may be gone."""


class Used(NamedTuple):
    """How much of a limit is used, of all workers together."""

    what: str
    used: int
    most: int

    @property
    def share(self) -> float:
        """The part that is used, at most 1."""
        return min(self.used / self.most, 1.0) if self.most else 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs a person, in a sentence; `action` is the address of what helps, `button` its name."""

    sentence: str
    action: str = ""
    button: str = ""
    batches: tuple[str, ...] = ()


class Statuses:
    """The statuses of all batches; those of batches that have ended are read once."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._operations = Operations(dashboard.config, dashboard.redis)
        self._ended: dict[str, tuple[tuple[str, ...], Status]] = {}
        self._begun = frozenset[str]()

    async def read(self, names: list[str]) -> list[Status]:
        """The statuses of these batches; one that is deleted meanwhile is left out."""
        endings = await Batches(self._operations.redis).endings(names)
        found = [status for name in names if (status := await self._one(name, endings.get(name)))]
        self._begun = frozenset(status.batch for status in found if status.succeeded)
        self._ended = {name: known for name, known in self._ended.items() if name in endings}
        return found

    @property
    def begun(self) -> frozenset[str]:
        """The batches that had results when they were last read."""
        return self._begun

    async def _one(self, name: str, ending: tuple[str, ...] | None) -> Status | None:
        known = self._ended.get(name)
        if known and known[0] == ending:
            return known[1]
        try:
            status = await self._operations.status(name)
        except BatchNotFound:
            return None
        if ending:
            self._ended[name] = (ending, status)
        return status


async def overview(request: Request) -> Response:
    """The page itself."""
    return page(request, "overview.html", parts=await overview_parts(request.app.state))


async def overview_events(request: Request) -> Response:
    """The events that keep it current."""
    feeds: Feeds = request.app.state.feeds
    return await feeds.respond(request, "overview", lambda: overview_parts(request.app.state))


async def overview_parts(state: Any) -> Mapping[str, str]:
    """Its parts as they are now; while Redis is away, one that says so."""
    dashboard: Dashboard = state.dashboard
    try:
        return {"outage": outage(), **await _read(dashboard, state.statuses), "newest": await _newest(state)}
    except (RedisError, BatchError) as error:
        return {"outage": outage(error)}


async def _read(dashboard: Dashboard, known: Statuses) -> dict[str, str]:
    redis, api_host = dashboard.redis, dashboard.config.api_host
    names = await Batches(redis).names()
    ended = await Batches(redis).endings(names)
    statuses = await known.read(sorted(names, key=ended.__contains__)[:MOST_SHOWN])
    account, workers = Account(redis, api_host), await live_workers(redis, api_host)
    read_only = dashboard.access.read_only
    schedules, problem = await _schedules(dashboard)
    waiting = [*needs(statuses), *schedule_needs(schedules, problem)]
    return {
        "needs": render("needs.html", needs=waiting, read_only=read_only),
        "batches": render("batches.html", statuses=statuses, more=len(names) - len(statuses), projected=projected),
        "workers": render("workers.html", workers=workers, now=int(time.time())),
        "limits": render(
            "limits.html", used=used(workers, dashboard.config), limits=await _limits(account), read_only=read_only
        ),
        "schedules": render("schedules.html", schedules=schedules, problem=problem),
        "actions": render("action_log.html", actions=await ActionLog(redis, api_host).last(ACTIONS_SHOWN)),
    }


async def _newest(state: Any) -> str:
    """The last pictures of the newest batch that has begun."""
    names = [name for name in await Batches(state.dashboard.redis).names() if name in state.statuses.begun]
    for name in names[:FOLDERS_TRIED]:
        with suppress(BatchError):  # its folder was moved away, say
            return render("newest.html", cards=await _pictures(state.indexes, name), batch=name)
    return render("newest.html", cards=[], batch="")


async def _pictures(indexes: Indexes, batch: str) -> list[tuple[str, str]]:
    async with indexes.use(batch) as opened:
        items = await asyncio.to_thread(opened.store.find, Filter(state="succeeded"), "newest", 0, NEWEST_SHOWN)
    return await asyncio.to_thread(pictures, opened.folder, items)


def used(workers: Iterable[LiveWorker], config: Config) -> list[Used]:
    """How much of each limit the workers that are up use, by their last heartbeats."""
    reports = [worker.report for worker in workers if worker.is_up and worker.report]
    return [
        Used("creates in the last minute", sum(one.creates for one in reports), int(config.creates_per_minute)),
        Used("reads in the last minute", sum(one.reads for one in reports), int(config.reads_per_minute)),
        Used("in flight", sum(one.in_flight for one in reports), config.max_in_flight * max(len(reports), 1)),
    ]


def needs(statuses: Iterable[Status]) -> Iterator[Need]:
    """What needs a person, most urgent first, each once."""
    statuses = list(statuses)
    open_ones = [status for status in statuses if status.finished_at is None]
    yield from _pauses(status for status in open_ones if status.state == "paused")
    if any(not status.workers for status in open_ones):
        yield Need(NO_WORKER)
    waiting: dict[tuple[str, str, str], list[str]] = {}
    for status in open_ones:
        for reason in status.reasons if status.state != "paused" else ():
            if reason != NO_WORKER_REASON:
                waiting.setdefault((reason, *_button(status, reason)), []).append(status.batch)
    yield from (Need(*need, tuple(batches)) for need, batches in waiting.items())
    for status in statuses:
        if note := budget_note(status):
            yield Need(note, f"/batches/{status.batch}/actions/retry", "Retry", (status.batch,))
        if note := unsaved_note(status):
            yield Need(note, batches=(status.batch,))


def _pauses(paused: Iterable[Status]) -> Iterator[Need]:
    """What pauses everything, once, then the batches that are paused alone."""
    paused = list(paused)
    of_account = {account_pause(status) for status in paused} - {""}
    yield from (Need(f"Paused: {reason}", "/actions/resume", "Resume") for reason in sorted(of_account))
    for status in paused:
        if status.paused is not None:
            yield Need(f"Paused: {status.paused}", f"/batches/{status.batch}/actions/resume", "Resume", (status.batch,))


def _button(status: Status, reason: str) -> tuple[str, str]:
    if status.dead_letters and "dead letter" in reason:
        return f"/batches/{status.batch}/actions/retry", "Retry"
    return ("/actions/resume", "Resume") if "is paused" in reason else ("", "")


def projected(status: Status) -> float | None:
    """Dollars that the whole batch will have cost if the rest costs what the first part did; None: not known."""
    ended = status.succeeded + status.failed + status.canceled
    if not status.cost or not ended or status.finished_at:
        return None
    return status.cost * status.total / max(ended + status.in_flight, 1)


async def _limits(account: Account) -> list[str]:
    """Why creates are held back at present, in sentences."""
    models = await account.paused_models()
    found = [await account.pause_reason(), await account.trouble(), await account.notice()]
    return [*filter(None, found), *await account.throttling(), *models.values()]


async def _schedules(dashboard: Dashboard) -> tuple[list[ScheduleStatus], str | None]:
    """All schedules, and what is wrong with their file."""
    try:
        return await Operations(dashboard.config, dashboard.redis).schedules(), None
    except ScheduleError as error:
        return [], str(error)


def schedule_needs(schedules: Iterable[ScheduleStatus], problem: str | None) -> Iterator[Need]:
    """What keeps batches from being enqueued at their times."""
    if problem:
        yield Need(f"Schedules: {problem}")
    for one in schedules:
        if wrong := one.problem or one.last_error:
            yield Need(f"Schedule {one.name}: {wrong}")
