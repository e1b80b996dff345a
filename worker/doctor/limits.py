"""Which limits hold now, and what keeps predictions from being created."""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.asyncio import Redis

from jobs.config import Config
from jobs.redis_client import keys
from jobs.state.account import Account
from worker.doctor.finding import Finding, ok, warning

RESUME = "python -m jobs resume, once it is mended"


async def limit_findings(redis: Redis, config: Config) -> list[Finding]:
    """Say the limits in force: as set, and what 429 answers made of them; RedisError."""
    shown = f"{config.creates_per_minute:g} creates and {config.reads_per_minute:g} reads a minute for all workers"
    found = [finding for bucket in ("create", "read") async for finding in _held(redis, config, bucket)]
    return [ok("limits", shown), *found]


async def pause_findings(redis: Redis, config: Config) -> list[Finding]:
    """Say why nothing is created at present, if so; RedisError."""
    account = Account(redis, config.api_host)
    found = []
    if reason := await account.pause_reason():
        cure = "mend it; it goes on by itself" if await account.paused_by() else RESUME
        found.append(warning("pause", f"everything is paused: {reason}", cure))
    if reason := await account.trouble():
        found.append(warning("pause", f"creates wait: {reason}", "mend it; they go on by themselves"))
    if reason := await account.notice():
        found.append(warning("pause", reason))
    found += [warning("pause", reason, RESUME) for reason in (await account.paused_models()).values()]
    return found or [ok("pause", "nothing is paused")]


async def worker_findings(redis: Redis, config: Config) -> list[Finding]:
    """Say how many workers are up; RedisError."""
    count = await Account(redis, config.api_host).workers()
    if count:
        return [ok("workers", f"{count} up")]
    return [warning("workers", "none is up", "python -m arq worker.Settings")]


async def _held(redis: Redis, config: Config, bucket: str) -> AsyncIterator[Finding]:
    row = await redis.hmget(keys.limit(config.api_host, bucket), ["hold", "reduced"])  # type: ignore[misc]  # typed for both clients
    seconds, micros = await redis.time()
    now = seconds + micros / 1e6
    hold, reduced = (float(value or 0) / 1e6 - now for value in row)
    if reduced > 0:
        cure = "add credit: https://replicate.com/account/billing"
        yield warning("limits", f"{bucket}: six a minute for {reduced:.0f} s more, for low credit", cure)
    if hold > 0:
        yield warning("limits", f"{bucket}: the API said 429; nothing starts for {hold:.0f} s more")
