"""Checks of the state in Redis: limits, pauses, workers, batches, schedules."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from jobs.account.account import Account
from jobs.config import Config, read_environment
from jobs.errors import PriceError, ScheduleError
from jobs.notify.file import load as load_receivers
from jobs.notify.overview import read_notifications
from jobs.prices.file import load_cards
from jobs.queue.dead_letters import DeadLetters, describe_dead_letters
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.schedules.file import describe, load
from jobs.schedules.scheduler import Schedules
from jobs.state.batches import Batches
from jobs.state.outbox import Outbox
from worker.doctor.finding import Finding, failure, ok, warning

RESUME = "python -m jobs resume, once the cause is removed"


async def limit_findings(redis: Redis, config: Config) -> list[Finding]:
    """Report the limits in force: as set, and as reduced after 429 answers; RedisError."""
    shown = f"{config.creates_per_minute:g} creates and {config.reads_per_minute:g} reads a minute for all workers"
    found = [finding for bucket in ("create", "read") async for finding in _held(redis, config, bucket)]
    return [ok("limits", shown), *found]


async def pause_findings(redis: Redis, config: Config) -> list[Finding]:
    """Report why nothing is created at present, if so; RedisError."""
    account = Account(redis, config.api_host)
    found = []
    if reason := await account.pause_reason():
        cure = "remove the cause; work resumes by itself" if await account.paused_by() else RESUME
        found.append(warning("pause", f"everything is paused: {reason}", cure))
    if reason := await account.trouble():
        found.append(warning("pause", f"creates wait: {reason}", "remove the cause; they resume by themselves"))
    if reason := await account.notice():
        found.append(warning("pause", reason))
    found += [warning("pause", reason, RESUME) for reason in (await account.paused_models()).values()]
    return found or [ok("pause", "nothing is paused")]


async def worker_findings(redis: Redis, config: Config) -> list[Finding]:
    """Count the workers that are up; RedisError."""
    count = await Account(redis, config.api_host).workers()
    if count:
        return [ok("workers", f"{count} up")]
    return [warning("workers", "none is up", "python -m arq worker.Settings")]


async def batch_findings(redis: Redis, config: Config) -> list[Finding]:
    """Count the batches that are not finished, and name the dead letters; RedisError."""
    batches = Batches(redis)
    every = [await batches.find(name) for name in await batches.names()]
    ours = [batch for batch in every if batch and batch.api_host == config.api_host and batch.finished_at is None]
    left = sum(batch.total - batch.settled for batch in ours)
    dead = [
        warning("batches", f"{batch.name}: {describe_dead_letters(batch.name, found, batch.total)}")
        for batch in ours
        if (found := await DeadLetters(redis).of(batch.name))
    ]
    return [ok("batches", f"{len(ours)} not finished, {left:,} prompts to do" if ours else "all are finished"), *dead]


async def schedule_findings(redis: Redis, config: Config) -> list[Finding]:
    """Report when the schedules fire next, and what they missed; RedisError."""
    try:
        every = await Schedules(redis, config).overview(time.time())
    except ScheduleError:
        return []  # the check of the file reports it
    found = []
    for one in every:
        shown = f"{one.name}: next {one.next or 'never'}, last {one.last or 'never'}"
        missed = f"{one.misses[-1].time} was missed: {one.misses[-1].reason}" if one.misses else None
        if one.next is None:
            continue  # as above
        if trouble := one.problem or one.last_error or missed:
            found.append(warning("schedules", f"{shown}; {trouble}", f"see {config.schedules} and {one.file}"))
        else:
            found.append(ok("schedules", shown))
    return found


def schedule_file_findings(config: Config) -> list[Finding]:
    """Check the file of schedules."""
    try:
        found = load(config.schedules)
    except ScheduleError as error:
        return [failure("schedules", str(error), "fix it: no schedule fires meanwhile")]
    if wrong := describe(config.schedules, found):
        return [failure("schedules", wrong, "fix it: these do not fire meanwhile")]
    return [ok("schedules", f"{len(found) or 'none'} in {config.schedules}")]


def notify_file_findings(config: Config) -> list[Finding]:
    """Check the file of receivers, and whether their secrets are in the environment."""
    found = load_receivers(config.notify, read_environment())
    if found.error:
        return [failure("notify", found.error, "fix it: these receivers are not notified meanwhile")]
    count = len(found.receivers) or "no"
    return [ok("notify", f"{count} receiver{'' if count == 1 else 's'} in {config.notify}")]


async def delivery_findings(redis: Redis, config: Config) -> list[Finding]:
    """Report the receivers that the last message did not reach; RedisError."""
    file = load_receivers(config.notify, read_environment())
    found = await read_notifications(file, Outbox(redis, config.api_host)) if file.receivers else None
    return [
        warning("notify", f"{one.name} was not reached: {one.last.error}", f"python -m jobs notify test {one.name}")
        for one in (found.receivers if found else ())
        if one.last and not one.last.delivered
    ]


def price_file_findings(config: Config) -> list[Finding]:
    """Check the file of rate cards."""
    try:
        cards = load_cards(config.prices_file)
    except PriceError as error:
        return [failure("prices", str(error), "fix it: no worker starts meanwhile, and nothing is enqueued")]
    shown = f"{len(config.prices.by_model) or 'none'} in BATCH_PRICES, {len(cards) or 'none'} in {config.prices_file}"
    return [ok("prices", shown)]


async def _held(redis: Redis, config: Config, bucket: str) -> AsyncIterator[Finding]:
    row = await redis.hmget(keys.limit(config.api_host, bucket), ["hold", "reduced"])
    seconds, micros = await redis.time()
    now = seconds + micros / 1e6
    hold, reduced = (float(value or 0) / 1e6 - now for value in row)
    if reduced > 0:
        cure = "add credit: https://replicate.com/account/billing"
        yield warning("limits", f"{bucket}: six a minute for {reduced:.0f} s more, for low credit", cure)
    if hold > 0:
        yield warning("limits", f"{bucket}: the API said 429; nothing starts for {hold:.0f} s more")
