"""All checks of the doctor; they are independent, and none spends or changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from jobs.config import Config, quoted_settings
from jobs.errors import BatchError, ConfigError, NothingEnqueued
from jobs.redis_client.client import opened
from jobs.redis_client.resilience import Redis
from worker.doctor.finding import Finding, failure, ok, warning
from worker.doctor.machine import file_findings, room_findings, speed_findings
from worker.doctor.network import api_findings, host_findings, network_findings
from worker.doctor.redis_server import embedded_findings, redis_findings
from worker.doctor.status import (
    batch_findings,
    delivery_findings,
    limit_findings,
    notify_file_findings,
    pause_findings,
    price_file_findings,
    schedule_file_findings,
    schedule_findings,
    worker_findings,
)

LOCAL: dict[str, Callable[[Config], list[Finding]]] = {
    "network": network_findings,
    "schedules": schedule_file_findings,
    "prices": price_file_findings,
    "notify": notify_file_findings,
    "outputs": room_findings,
    "disk speed": speed_findings,
    "open files": file_findings,
}
ONLINE: dict[str, Callable[[Config], Awaitable[list[Finding]]]] = {"account": api_findings, "hosts": host_findings}
IN_REDIS: dict[str, Callable[[Redis, Config], Awaitable[list[Finding]]]] = {
    "redis": lambda redis, _: redis_findings(redis),
    "limits": limit_findings,
    "pause": pause_findings,
    "workers": worker_findings,
    "batches": batch_findings,
    "schedules": schedule_findings,
    "notify": delivery_findings,
}
CHECK_SECONDS = 60.0


async def examine() -> list[Finding]:
    """Run all checks, one after the other."""
    try:
        config = Config.load()
    except ConfigError as error:
        return [failure("settings", str(error), "fix it in the environment or in .env; all other checks need it")]
    found = [_settings_finding(), *await _examine_redis(config)]
    for check, ask in ONLINE.items():
        found += await _run_check(check, ask(config))
    for check, look in LOCAL.items():
        found += await _run_check(check, asyncio.to_thread(look, config))
    return found


def _settings_finding() -> Finding:
    if quoted := quoted_settings():
        said = f"every setting is valid; the quotes around {', '.join(quoted)} are left out"
        return warning("settings", said, "take them off: Docker's --env-file keeps them")
    return ok("settings", "every setting is valid")


async def _examine_redis(config: Config) -> list[Finding]:
    try:
        async with opened(config, start=False) as redis:
            answers = [await _run_check(check, ask(redis, config)) for check, ask in IN_REDIS.items()]
    except NothingEnqueued:
        return await _run_check("redis", asyncio.to_thread(embedded_findings, config))
    except BatchError as error:
        unseen = [warning(check, "not looked at: Redis does not answer") for check in IN_REDIS if check != "redis"]
        return [failure("redis", str(error)), *unseen]
    return [finding for answer in answers for finding in answer]


async def _run_check(check: str, answer: Awaitable[list[Finding]]) -> list[Finding]:
    """Return a check's findings; a check that raises is a failure, and the others still run."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await answer
    except TimeoutError:
        return [failure(check, f"no answer within {CHECK_SECONDS:.0f} s")]
    except (BatchError, RedisError, OSError) as error:
        return [failure(check, str(error) or type(error).__name__)]
    except Exception as error:  # noqa: BLE001 - the other checks must still run
        return [failure(check, f"this could not be checked: {type(error).__name__}: {error}")]
