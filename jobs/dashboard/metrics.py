"""What the dashboard knows of all batches, as metrics for Prometheus: read from Redis when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from jobs.account.account import Account
from jobs.account.live_workers import live_workers
from jobs.dashboard.pages import Dashboard
from jobs.errors import BatchNotFound
from jobs.operations.operations import Operations
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.shard_queue import Queue
from jobs.state.batches import Batches
from jobs.wire import Status

PREFIX = "replicate_batch_dashboard_"
STATES = ("queued", "running", "paused", "finished")
"""The states of batches; those that were canceled to their end are finished, too."""

GAUGES: Mapping[str, tuple[str, str]] = {
    "redis_up": ("1 while Redis answers; without it only open_feeds is there", ""),
    "open_feeds": ("Pages that are open and show each change at once", ""),
    "batches": ("Batches that Redis knows", "state"),
    "prompts": ("Prompts of unfinished batches", "state"),
    "dead_letters": ("Shards of unfinished batches that do not run any more after repeated crashes", ""),
    "queued_shards": ("Shards in the queue of all workers, running ones included", ""),
    "workers": ("Workers of this API host that are up", ""),
    "unsaved_outputs": ("Predictions that succeeded and are not on disk, of all workers", ""),
    "paused": ("1 while creates are held back: of all models, or (model, batch) of at least one", "reason"),
    "hold_seconds": ("Seconds until creates go on (429, outage), or are no longer reduced (low credit)", "reason"),
}
"""Each metric: what it means, and its label."""

Values = Mapping[str, float]
"""A metric's values by its label's, "" where it has none."""


async def show_metrics(request: Request) -> Response:
    """Answer with the metrics; those of Redis are left out while it is away."""
    state = request.app.state
    found: dict[str, Values] = {"open_feeds": {"": state.feeds.open}, "redis_up": {"": 1}}
    try:
        found |= await _read(state.dashboard)
    except RedisError:
        found["redis_up"] = {"": 0}
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Read(found))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"content-type": media_type})


class _Read(Collector):
    """Metrics that were read."""

    def __init__(self, found: Mapping[str, Values]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        for name, values in self._found.items():
            meaning, label = GAUGES[name]
            family = GaugeMetricFamily(PREFIX + name, f"{meaning}.", labels=[label] if label else [])
            for value, number in values.items():
                family.add_metric([value] if label else [], number)
            yield family


async def _read(dashboard: Dashboard) -> dict[str, Values]:
    redis, api_host = dashboard.redis, dashboard.config.api_host
    names = await Batches(redis).names()
    ended = await Batches(redis).endings(names)
    running = [status for name in names if name not in ended and (status := await _status(dashboard, name))]
    states = Counter({"finished": len(ended)}) + Counter(status.state for status in running)
    workers = [worker for worker in await live_workers(redis, api_host) if worker.is_up]
    letters = [len(await DeadLetters(redis).of(status.batch)) for status in running]
    return {
        "batches": {state: states[state] for state in STATES},
        "prompts": _prompts(running),
        "dead_letters": {"": sum(letters)},
        "queued_shards": {"": await Queue(redis, api_host).size()},
        "workers": {"": len(workers)},
        "unsaved_outputs": {"": sum(worker.report.unsaved for worker in workers if worker.report)},
        **await _holds(Account(redis, api_host), running),
    }


async def _status(dashboard: Dashboard, name: str) -> Status | None:
    try:
        return await Operations(dashboard.config, dashboard.redis).status(name)
    except BatchNotFound:  # deleted meanwhile
        return None


def _prompts(statuses: Iterable[Status]) -> Values:
    fields = ("waiting", "in_flight", "succeeded", "failed", "canceled")
    counts: Any = Counter(dict.fromkeys(fields, 0))
    for status in statuses:
        counts.update({field: getattr(status, field) for field in fields})
    return dict(counts)


async def _holds(account: Account, running: Iterable[Status]) -> dict[str, Values]:
    reason, by = await account.pause_reason(), await account.paused_by()
    held, reduced = await account.restraints()
    paused = {
        "manual": bool(reason) and not by,
        "token": by == "401",
        "credit": by == "402",
        "trouble": bool(await account.trouble()),
        "model": bool(await account.paused_models()),
        "batch": any(status.paused is not None for status in running),
    }
    return {"paused": paused, "hold_seconds": {"held": max(held, 0.0), "reduced": max(reduced, 0.0)}}
