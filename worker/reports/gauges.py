"""How a worker stands, for its metrics: read every second from its own state, and now and then from Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobs.queue.dead_letters import DeadLetters
from jobs.queue.shard_queue import Queue
from jobs.state.waits import Kind
from worker.background import every
from worker.context import Context
from worker.telemetry import metrics
from worker.telemetry.metrics_server import MetricsServer, start_metrics_server

LOCAL_SECONDS, REDIS_SECONDS = 1.0, 10.0


@asynccontextmanager
async def serving_metrics(worker: Context) -> AsyncIterator[MetricsServer | None]:
    """Serve the metrics in the block if BATCH_METRICS_PORT is set, and possible."""
    host, port = worker.config.metrics_host, worker.config.metrics_port
    server = None if port is None else await asyncio.to_thread(start_metrics_server, host, port)
    if server is None:
        yield None
        return
    gauges = Gauges(worker)
    gauges.set_constants()
    # Two loops, as one of them waits for Redis.
    async with every(LOCAL_SECONDS, gauges.read_worker), every(REDIS_SECONDS, gauges.read_redis):
        try:
            yield server
        finally:
            server.stop()


class Gauges:
    """Sets the gauges on the event loop, so that no other thread reads what changes meanwhile."""

    def __init__(self, worker: Context) -> None:
        self._worker = worker
        self._reasons = set[Kind]()

    def set_constants(self) -> None:
        """Set what does not change while the worker runs."""
        metrics.set_build_info()
        metrics.IN_FLIGHT_LIMIT.set(self._worker.config.max_in_flight)
        metrics.CREATE_LIMIT.set(self._worker.config.creates_per_minute)

    async def read_worker(self) -> None:
        """Set what this worker knows itself."""
        worker, outputs = self._worker, self._worker.outputs
        metrics.LAST_TICK.set(time.time())
        metrics.IN_FLIGHT.set(worker.poller.in_flight)
        metrics.DOWNLOADS.set(outputs.downloads)
        metrics.UNSAVED.set(len(outputs.backlog))
        metrics.BACKLOG.set(outputs.backlog.oldest(time.time()))
        counts = worker.waits.count_by_kind()
        self._reasons |= counts.keys()
        for reason in self._reasons:
            metrics.WAITING.labels(reason.replace(" ", "_")).set(counts.get(reason, 0))

    async def read_redis(self) -> None:
        """Set what all workers share."""
        worker, account = self._worker, self._worker.account
        reason, by, models = await account.pause_reason(), await account.paused_by(), await account.paused_models()
        metrics.PAUSED.labels("manual").set(bool(reason) and not by)
        metrics.PAUSED.labels("token").set(by == "401")
        metrics.PAUSED.labels("credit").set(by == "402")
        metrics.PAUSED.labels("trouble").set(bool(await account.trouble()))
        metrics.PAUSED.labels("model").set(bool(models))
        metrics.PAUSED_MODELS.set(len(models))
        metrics.WORKERS.set(await account.workers())
        metrics.QUEUED.set(await Queue(worker.redis, worker.config.api_host).size())
        letters = DeadLetters(worker.redis)
        metrics.DEAD_LETTERS.set(sum([len(await letters.of(name)) for name in await worker.batches.names()]))
