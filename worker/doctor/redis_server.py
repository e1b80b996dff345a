"""Checks of Redis: version, rights, persistence, eviction, memory, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from jobs.config import Config
from jobs.errors import UnfitRedis
from jobs.redis_client import embedded
from jobs.redis_client.requirements import ACL_LINE, CLUSTER, OLDEST, RIGHTS_CURE, check_rights
from jobs.redis_client.resilience import Redis
from jobs.redis_client.server import server_name
from worker.doctor.finding import Finding, failure, ok, warning

FULL, NEARLY_FULL = 0.95, 0.8
SLOW_CLOCK, WRONG_CLOCK = 2.0, 60.0
"""Seconds: heartbeats and schedules are compared with each machine's own clock."""

ALWAYS = "run it with appendonly yes and appendfsync always"
CANNOT_TELL = "(this server does not show its settings)"


async def redis_findings(redis: Redis) -> list[Finding]:
    """Check the server's own information; RedisError."""
    info: Mapping[str, Any] = await _info(redis)
    if unfit := _mode(info) or await _rights(redis):
        return unfit
    settings = await _settings(redis)
    before = time.time()
    seconds, micros = await redis.time()
    after = time.time()
    return [
        *_version(info, after - before),
        *_persistence(info, settings),
        *_eviction(info),
        *_memory(info),
        *_clock(seconds + micros / 1e6 - (before + after) / 2),
    ]


async def _info(redis: Redis) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = await redis.info()
    except NoPermissionError:
        return {}
    return found


def _mode(info: Mapping[str, Any]) -> list[Finding]:
    if str(info.get("cluster_enabled", 0)) != "1":
        return []
    return [failure("redis mode", CLUSTER, "fix REDIS_URL, or unset it to use the embedded server")]


async def _rights(redis: Redis) -> list[Finding]:
    """The rights that this user lacks, if any."""
    try:
        await check_rights(redis)
    except UnfitRedis as error:
        return [failure("redis user", str(error).removesuffix(f" {RIGHTS_CURE}"), f"an administrator runs: {ACL_LINE}")]
    return []


def embedded_findings(config: Config) -> list[Finding]:
    """Report whether the embedded server, which has never run, can be started; RedisUnreachable."""
    embedded.binary()
    return [
        ok("redis", f"{server_name(config)} has never run: nothing was enqueued yet. `enqueue` or a worker starts it")
    ]


async def _settings(redis: Redis) -> dict[str, str]:
    """What CONFIG GET shows; hosted servers often do not allow it."""
    try:
        found: dict[str, str] = await redis.config_get("append*")
    except RedisError:
        return {}
    return found


def _version(info: Mapping[str, Any], seconds: float) -> Iterator[Finding]:
    name = info.get("server_name", "redis")
    text = str(info.get(f"{name}_version", info.get("redis_version", "?")))
    shown = f"{name} {text}, answers in {seconds * 1000:.1f} ms"
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if numbers and numbers < OLDEST:
        yield failure("redis", shown, f"use Redis {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey")
    elif seconds > 0.1:
        yield warning("redis", shown, "each create waits for several answers: run it near the workers")
    else:
        yield ok("redis", shown)


def _persistence(info: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[Finding]:
    check, fsync = "persistence", settings.get("appendfsync")
    if not info.get("aof_enabled"):
        loss = "appendonly is off: when Redis restarts, what was written since its last snapshot is forgotten, and "
        yield failure(check, f"{loss}predictions that run then are paid again", ALWAYS)
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield failure(check, "the last write to its disk failed: Redis takes nothing more", "make room on its disk")
    elif fsync == "always":
        yield ok(check, "appendonly, and every write is on its disk before it is answered")
    elif fsync == "everysec":
        yield warning(
            check,
            "appendfsync is everysec: after a power cut the creates of the last two seconds may be paid again",
            ALWAYS,
        )
    elif fsync == "no":
        yield warning(
            check,
            "appendfsync is no: after a power cut the creates of the last half minute or more may be paid again",
            ALWAYS,
        )
    else:
        yield warning(check, f"appendonly is on; how often it is brought to disk is unknown {CANNOT_TELL}", ALWAYS)


def _eviction(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        yield ok("eviction", "noeviction: Redis refuses writes when it is full, and forgets nothing")
    elif policy is None:
        yield warning("eviction", f"the policy is unknown {CANNOT_TELL}", "see that it is noeviction")
    else:
        message = f"the policy is {policy}: a full Redis would delete jobs and what is paid for; workers do not start"
        yield failure("eviction", message, "CONFIG SET maxmemory-policy noeviction, and in its configuration file")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    whole = limit or int(info.get("total_system_memory", 0))
    of = "its maxmemory" if limit else "the machine's memory; it has no maxmemory"
    shown = f"{used / 1e6:.1f} MB used" + (f" of {whole / 1e6:,.0f} MB, {of}" if whole else "")
    cure = "raise its maxmemory, or delete finished batches: python -m jobs delete BATCH"
    if whole and used > FULL * whole:
        yield failure("memory", shown, cure)
    elif whole and used > NEARLY_FULL * whole:
        yield warning("memory", shown, cure)
    else:
        yield ok("memory", shown)


def _clock(ahead: float) -> Iterator[Finding]:
    shown = f"Redis's clock and ours differ by {abs(ahead):.1f} s"
    cure = "keep the clocks of all machines right, with NTP for instance"
    if abs(ahead) > WRONG_CLOCK:
        yield failure("redis clock", shown, cure)
    elif abs(ahead) > SLOW_CLOCK:
        yield warning("redis clock", shown, cure)
    else:
        yield ok("redis clock", shown)
