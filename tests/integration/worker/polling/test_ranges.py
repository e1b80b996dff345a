"""A pass over the list of several pages, read at once by ranges of time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.config import Config
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.predictions import Page, Replicate
from tests.integration.worker.polling.bench import open_bench


class WatchedReplicate(Replicate):
    """Notes its reads of the list."""

    heeds_times = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.under_way = self.most = 0
        self.spans: list[tuple[float, float | None]] = []

    async def list(self, *, since: float, until: float | None = None, cursor: str | None = None) -> Page:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.spans.append((since, until))
        try:
            await asyncio.sleep(0.02)  # as long as a call takes in a network
            if self.heeds_times:
                return await super().list(since=since, until=until, cursor=cursor)
            return await super().list(since=0.0, cursor=cursor)
        finally:
            self.under_way -= 1


class Timeless(WatchedReplicate):
    """A server that knows neither `created_after` nor `created_before`."""

    heeds_times = False


@pytest.fixture(name="quick")
def quick_polls(config: Config, simulator: Any) -> Config:
    simulator.settings(limiter="off")
    return config.model_copy(update={"poll_interval": 0.1})


async def test_the_pages_of_a_pass_are_read_at_once(quick: Config, redis: Redis) -> None:
    async with open_bench(WatchedReplicate, quick, redis) as bench, bench.poller.running(), asyncio.timeout(60):
        ended = await bench.wait(await bench.create(350, predict_time=1.0))
    assert {prediction.status for prediction in ended} == {"succeeded"}
    assert bench.replicate.most >= 3
    bounded = {since for since, until in bench.replicate.spans if until is not None}
    assert bounded, "pages were read by ranges"


async def test_an_api_that_ignores_times_is_read_page_by_page(quick: Config, redis: Redis) -> None:
    async with open_bench(Timeless, quick, redis) as bench, bench.poller.running(), asyncio.timeout(60):
        ended = await bench.wait(await bench.create(350, predict_time=1.0))
        spans = bench.replicate.spans
        first = [until for _, until in spans]
        assert {prediction.status for prediction in ended} == {"succeeded"}
        before = len(first)
        again = await bench.wait(await bench.create(250, predict_time=1.0))
    assert {prediction.status for prediction in again} == {"succeeded"}
    assert any(until is not None for until in first), "ranges were tried"
    assert all(until is None for _, until in spans[before:]), "and not again"


async def test_others_predictions_among_ours_lose_nothing(quick: Config, redis: Redis) -> None:
    async with open_bench(WatchedReplicate, quick, redis) as bench, bench.poller.running(), asyncio.timeout(60):
        ours = []
        for _ in range(6):
            ours += await bench.create(20, predict_time=1.5)
            await bench.create(60, predict_time=0.1)
        ended = await bench.wait(ours)
    assert {prediction.status for prediction in ended} == {"succeeded"}
