"""A worker's lifecycle: open its resources in order, run its background loops, close everything in reverse order.

What a signal does to a worker is in `arq_worker`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from jobs.account.account import Account
from jobs.config import Config, read_environment
from jobs.errors import AccountRefused, BatchError, ConfigError, ReplicateError
from jobs.logs.setup import report_end
from jobs.notify.notifier import Notifier
from jobs.prices.price_list import PriceBook
from jobs.queue.shard_queue import Queue
from jobs.redis_client.client import connect, redis_url, restart_embedded
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.client import api_client
from jobs.replicate_api.files import Files
from jobs.replicate_api.predictions import Replicate
from jobs.schedules.scheduler import Schedules
from jobs.secret_inputs import Secrets
from jobs.state.batches import Batches
from jobs.state.claims import Claims
from worker.background import every
from worker.backpressure import BackPressure
from worker.context import Context, job_slots
from worker.heartbeat import HEARTBEAT, Heartbeat
from worker.leases import Leases, lease_name
from worker.limits.batch_limiter import BatchConcurrencyLimit
from worker.limits.circuit_breaker import CircuitBreaker
from worker.limits.job_slots import JobSlots, RunningJobs
from worker.limits.model_limiter import ModelLimiter
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.limits.rate_limiter import RateLimiter
from worker.limits.refused_rows import RefusedRows
from worker.limits.request_gate import RequestGate
from worker.limits.token_check import TokenCheck, lift_pause
from worker.limits.wait_reporter import WaitReporter
from worker.orphans.search import OrphanSearch
from worker.outputs.file_host import files_client
from worker.outputs.folder_health import FolderHealth
from worker.outputs.saver import OutputSaver
from worker.polling.leader import PollingLeader
from worker.polling.poller import Poller
from worker.reports.alarms import Alarms
from worker.reports.gauges import serving_metrics
from worker.reports.presence import Presence
from worker.shard.rescue import Rescue
from worker.telemetry.tracing import tracing
from worker.timing import Timing
from worker.uploads.sender import Sender
from worker.uploads.uploader import Uploader

logger = logging.getLogger(__name__)

CREATES_AT_ONCE = 24
"""Of the API client's 64 connections; about ten creates start a second, and each takes well under a second."""

TOKEN_CHECK = 5.0
"""Seconds between two checks whether a refused token is due for another try."""

FILE_CHECK = 10.0
"""Seconds between two looks whether prices.toml or notify.toml has changed."""

MOST_FILES = 65_536


async def startup(ctx: dict[str, Any]) -> None:
    """Open the worker's resources, or end the process with one sentence that says why it cannot start."""
    raise_file_limit()
    config: Config = ctx["config"]
    stack = ctx["stack"] = AsyncExitStack()
    try:
        ctx["worker"] = await stack.enter_async_context(open_context(config, ctx.get("timing")))
        if only := ctx.get("only"):
            logger.info("works on batch %s only, and fires no schedules", only)
        else:
            schedules = Schedules(ctx["worker"].redis, config, announce=ctx["worker"].notifier.post)
            await stack.enter_async_context(every(1.0, partial(fire_due_schedules, schedules)))
        await stack.enter_async_context(serving_metrics(ctx["worker"]))
        await stack.enter_async_context(tracing())
        await log_startup(ctx["worker"])
    except BatchError as error:
        report_end(config, error)
        raise SystemExit(error.exit_code) from None


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close what `startup` opened; a worker that has done everything first delivers its last notifications."""
    if ctx.get("is_done") and "worker" in ctx:
        with suppress(BatchError, RedisError, OSError):
            await ctx["worker"].notifier.finish()
    if stack := ctx.get("stack"):
        await stack.aclose()


async def acquire_lease(ctx: dict[str, Any]) -> None:
    """Wait for the shard's lease; arq's `on_job_start`. It never raises, as that would end the worker."""
    leases, ctx["lease"] = ctx["worker"].leases, None
    await ctx["worker"].job_slots.running.single_flight(ctx["job_id"])
    try:
        ctx["lease"] = await leases.acquire(lease_name(ctx["job_id"]), ctx["job_id"])
    except asyncio.CancelledError:
        leases.absorb_cancel()


async def release_lease(ctx: dict[str, Any]) -> None:
    """Release the lease of a job that ended or will be retried; arq's `after_job_end`. It never raises either."""
    if lease := ctx["lease"]:
        try:
            await ctx["worker"].leases.release(lease)
        except asyncio.CancelledError:
            ctx["worker"].leases.absorb_cancel()


@asynccontextmanager
async def open_context(config: Config, timing: Timing | None = None) -> AsyncIterator[Context]:
    """Open what a worker holds, each resource after those it needs, and close it in reverse order."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        redis = connect(redis_url(config), patient=True)
        stack.push_async_callback(redis.aclose)
        worker = await assemble(config, timing or Timing(), redis, owner, stack)
        stack.push_async_callback(finish_creates, worker)
        for loop in background_loops(worker):
            await stack.enter_async_context(loop)
        yield worker


def background_loops(worker: Context) -> Iterator[AbstractAsyncContextManager[None]]:
    """The loops that run beside a worker's jobs, each after those it needs."""
    presence, file = Presence(worker), Heartbeat()
    yield worker.breaker.running()
    yield worker.poller.running()
    yield worker.orphans.running()
    yield worker.leases.renewing()
    yield worker.uploads.running()
    yield Rescue(worker).running()
    yield every(HEARTBEAT, presence.announce, at_end=presence.withdraw)
    yield every(HEARTBEAT, file.beat, at_end=file.stop)
    yield every(HEARTBEAT, partial(asyncio.to_thread, restart_embedded, worker.config))
    yield every(1.0, BackPressure(worker).check)
    yield every(TOKEN_CHECK, worker.gate.token.lift_if_accepted)
    yield every(1.0, worker.waits.report_changes)
    yield every(1.0, worker.job_slots.make_room)
    yield every(FILE_CHECK, partial(asyncio.to_thread, worker.prices.look))
    yield every(FILE_CHECK, worker.notifier.look)
    yield every(1.0, worker.notifier.deliver, wake=worker.notifier.wake, at_end=worker.notifier.stop)
    yield every(HEARTBEAT, Alarms(worker).check)


async def assemble(config: Config, timing: Timing, redis: Redis, owner: str, stack: AsyncExitStack) -> Context:
    """Build a worker's context; what must be closed is entered on `stack`."""
    account = Account(redis, config.api_host, timing.account_recheck)
    replicate, sender, gate = await open_api(config, timing, redis, account, stack)
    return Context(
        config=config,
        redis=redis,
        account=account,
        batches=Batches(redis),
        leases=(leases := Leases(redis, config.api_host, owner, config.lease)),
        gate=gate,
        replicate=replicate,
        secrets=Secrets(read_environment()),
        claims=(claims := Claims(redis, config.api_host)),
        poller=Poller(replicate, gate, config, PollingLeader(redis, config.api_host, owner, timing.polling)),
        orphans=OrphanSearch(replicate, gate, claims, timing.between_searches),
        outputs=OutputSaver(config, await stack.enter_async_context(files_client(config)), timing.downloads),
        uploads=Uploader(config, redis, leases, replicate, sender),
        breaker=(breaker := CircuitBreaker(redis, config)),
        model_limiter=ModelLimiter(redis, config),
        batch_limiter=BatchConcurrencyLimit(redis, config.deadline),
        refused_rows=RefusedRows(config, breaker),
        in_flight=PrioritySemaphore(config.max_in_flight),
        connections=PrioritySemaphore(config.max_in_flight if config.prefer_wait else CREATES_AT_ONCE),
        waits=WaitReporter(redis, owner),
        job_slots=JobSlots(redis, config, leases, RunningJobs(leases), job_slots(config)),
        prices=PriceBook(config),
        notifier=await stack.enter_async_context(Notifier.opened(redis, config)),
        folders=FolderHealth(timing.jitter),
        timing=timing,
    )


async def open_api(
    config: Config, timing: Timing, redis: Redis, account: Account, stack: AsyncExitStack
) -> tuple[Replicate, Sender, RequestGate]:
    """Open Replicate's API, for predictions and for uploads, and the gate of all requests to it."""
    limiter = await stack.enter_async_context(RateLimiter(redis, config.api_host, rate_limits(config)))
    client = await stack.enter_async_context(api_client(config))
    replicate = Replicate(client, config, timing.create_timeout)
    gate = RequestGate(limiter, account, TokenCheck(limiter, account, replicate.account, timing.token_again))
    return replicate, Sender(Files(client), gate, account, timing.jitter, timing.upload_patience), gate


def rate_limits(config: Config) -> dict[str, float]:
    """The most requests a minute of each bucket of the rate limiter, for all workers together."""
    return {"create": config.creates_per_minute, "read": config.reads_per_minute}


async def finish_creates(worker: Context) -> None:
    """Wait for creates whose prompts were cancelled twice: one that is interrupted is ambiguous."""
    if worker.creates:
        await asyncio.wait(worker.creates, timeout=worker.timing.stop_patience)


async def log_startup(worker: Context) -> None:
    """Log the account, the limits and what is queued; ConfigError when the token is refused."""
    config = worker.config
    try:
        name = await worker.replicate.account()
    except AccountRefused as error:
        raise ConfigError(f"{error}. Put a valid token in REPLICATE_API_TOKEN or .env; nothing was spent.") from error
    except ReplicateError as error:
        logger.warning("! the API at %s does not answer yet: %s", config.replicate_base_url, error)
        name = "unknown yet"
    else:
        await lift_pause(worker.account, "401")
    logger.info("account %s at %s", name, config.replicate_base_url, extra={"event": "worker_started"})
    logger.info(
        "limits: %g creates and %g reads a minute for all workers; %d in flight, %d downloads for this one",
        config.creates_per_minute,
        config.reads_per_minute,
        config.max_in_flight,
        config.max_downloads,
    )
    waiting = await Queue(worker.redis, config.api_host).size()
    logger.info("shards waiting: %d; outputs go to %s", waiting, config.output_dir.absolute())
    if reason := await worker.account.pause_reason():
        logger.warning(
            "! everything is paused: %s. `python -m jobs resume` lifts it", reason, extra={"event": "account_paused"}
        )


async def fire_due_schedules(schedules: Schedules) -> None:
    """Enqueue the batches of schedules that are due; among all workers, each fires once."""
    for receipt in await schedules.fire_due(time.time()):
        logger.info(
            "schedule: enqueued %s, %d prompts",
            receipt.batch,
            receipt.enqueued,
            extra={"event": "schedule_fired", "batch": receipt.batch},
        )


def raise_file_limit() -> None:
    """Raise the limit of open files as far as the system allows: each connection and each download takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports a limit that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MOST_FILES) if hard > 0 else MOST_FILES, hard))
