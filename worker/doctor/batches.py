"""What is to be done: batches that are not finished, shards that were set aside, schedules."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from jobs.config import Config
from jobs.errors import ScheduleError
from jobs.queue.dead_letters import DeadLetters, sentence
from jobs.schedules.file import describe, load
from jobs.schedules.scheduler import Schedules
from jobs.state.batches import Batches
from worker.doctor.finding import Finding, failure, ok, warning


async def batch_findings(redis: Redis, config: Config) -> list[Finding]:
    """Count the batches that are not finished, and name the shards that were set aside; RedisError."""
    batches = Batches(redis)
    every = [await batches.find(name) for name in await batches.names()]
    ours = [batch for batch in every if batch and batch.api_host == config.api_host and batch.finished_at is None]
    left = sum(batch.total - batch.settled for batch in ours)
    dead = [
        warning("batches", f"{batch.name}: {sentence(batch.name, found, batch.total)}")
        for batch in ours
        if (found := await DeadLetters(redis).of(batch.name))
    ]
    return [ok("batches", f"{len(ours)} not finished, {left:,} prompts to do" if ours else "all are finished"), *dead]


async def schedule_findings(redis: Redis, config: Config) -> list[Finding]:
    """Say when the schedules are next, and what they missed; RedisError."""
    try:
        every = await Schedules(redis, config).overview(time.time())
    except ScheduleError:
        return []  # the check of the file says it
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
    """Say whether the file of schedules is right."""
    try:
        found = load(config.schedules)
    except ScheduleError as error:
        return [failure("schedules", str(error), "mend it: no schedule fires meanwhile")]
    if wrong := describe(config.schedules, found):
        return [failure("schedules", wrong, "mend it: these do not fire meanwhile")]
    return [ok("schedules", f"{len(found) or 'none'} in {config.schedules}")]
