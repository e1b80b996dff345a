from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from jobs.account.account import Account
from jobs.account.live_workers import WorkerReport, send_heartbeat
from jobs.config import Config
from jobs.dashboard.metrics import GAUGES, PREFIX
from jobs.redis_client.resilience import Redis

TOKEN = "a-token-that-is-long-enough"
OPEN_METRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
async def values(night: Any, browser: Any, redis: Redis, config: Config) -> dict[str, float]:
    night.write_rows(*({"id": one, "input": {"prompt": one}} for one in ("cat", "dog", "owl")))
    await night.open(3)
    await night.end(0, "cat")
    await night.end(1, "dog", "failed", error={"kind": "model_error", "message": "no"})
    report = WorkerReport(host="attic", pid=7, since=1.0, unsaved=2)
    await send_heartbeat(redis, config.api_host, "w", 60, report)
    await send_heartbeat(redis, config.api_host, "dead", -60, report)
    await Account(redis, config.api_host).pause_for("402", "no credit")
    found = await browser.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=")
    families = [one for one in text_string_to_metric_families(found.text) if one.name.startswith(PREFIX)]
    assert {family.name.removeprefix(PREFIX) for family in families} == GAUGES.keys()
    return {
        " ".join([sample.name.removeprefix(PREFIX), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_redis_knows_is_counted(values: dict[str, float]) -> None:
    assert values | {
        "redis_up": 1, "workers": 1, "unsaved_outputs": 2, "batches paused": 0, "batches running": 1,
        "batches finished": 0, "prompts waiting": 1, "prompts succeeded": 1, "prompts failed": 1,
        "paused credit": 1, "paused manual": 0, "paused batch": 0, "hold_seconds held": 0, "open_feeds": 0,
    } == values  # fmt: skip


async def test_feeds_are_counted_and_the_newer_format_is_spoken(browser: Any) -> None:
    events = browser.events("/events")
    await anext(events)
    found = await browser.get("/metrics", headers=OPEN_METRICS)
    (feeds,) = (one for one in open_metrics(found.text) if one.name == f"{PREFIX}open_feeds")
    assert feeds.samples[0].value == 1
    await events.aclose()


@pytest.mark.parametrize(
    ("authorization", "status"), [("", 401), ("Bearer wrong", 401), (f"Basic {TOKEN}", 401), (f"Bearer {TOKEN}", 200)]
)
async def test_a_token_protects_it(serve_dashboard: Any, authorization: str, status: int) -> None:
    browser = await serve_dashboard(dashboard_token=SecretStr(TOKEN))
    assert (await browser.get("/metrics", headers={"authorization": authorization})).status_code == status
    if status == 200:
        assert (await browser.get("/", headers={"authorization": authorization})).status_code == 303
