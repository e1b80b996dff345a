from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.redis_client.client import connect
from jobs.redis_client.embedded import ensure_running, stop
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

CAT = {"id": "cat", "input": {"prompt": "a cat"}}


@pytest.fixture
def redis_home() -> Iterator[Path]:
    """Where the server of one test lives, which may be killed and started again."""
    root = Path(tempfile.mkdtemp(prefix="rb-")).resolve()
    yield root / "r"
    stop(root / "r")
    shutil.rmtree(root)


@pytest.fixture(name="redis")
async def redis_client(redis_home: Path) -> AsyncIterator[Redis]:
    client = connect(f"unix://{ensure_running(redis_home)}")
    yield client
    await client.aclose()


async def part(events: Any, name: str, text: str) -> None:
    """Wait until a part of a page has a text."""
    async for event in events:
        if event["id"] == name and text in str(event["html"]):
            return


async def test_pages_say_that_redis_is_away_and_come_back(night: Any, browser: Any, redis_home: Path) -> None:
    night.write_rows(CAT)
    await night.open(1)
    events, overview = browser.events("/batches/night/events"), browser.events("/events")
    await part(events, "items", "no result yet")
    await part(overview, "batches", "night")
    os.kill(int((redis_home / "valkey.pid").read_text()), signal.SIGKILL)
    await part(events, "outage", "Redis does not answer")
    await part(overview, "outage", "Redis does not answer")
    for path in ("/", "/batches/night", "/batches/night?text=cat"):
        assert "Redis does not answer" in (await browser.get(path)).text
    assert "replicate_batch_dashboard_redis_up 0.0" in (await browser.get("/metrics")).text
    assert "This cannot be done now" in (await browser.get("/batches/night/actions/cancel")).text
    ensure_running(redis_home)
    await part(events, "outage", "hidden")
    await part(overview, "outage", "hidden")
    await night.end(0, "cat")
    await part(events, "items", "no output")
    await events.aclose()
    await overview.aclose()


async def test_a_batch_may_be_deleted_while_its_page_is_open(night: Any, browser: Any, redis: Redis) -> None:
    night.write_rows(CAT)
    await night.open(1)
    events = browser.events("/batches/night/events")
    await part(events, "items", "no result yet")
    await Batches(redis).delete("night")
    await part(events, "summary", "Redis does not know this batch any more")
    shutil.rmtree(night.folder.path)
    await part(events, "outage", "is not the folder of a batch")
    await events.aclose()
    assert (await browser.get("/batches/night")).status_code == 404
    assert "no batch yet" in (await browser.get("/")).text
