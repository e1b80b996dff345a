from __future__ import annotations

import shutil
from typing import Any

import pytest

from jobs.account.account import Account
from jobs.account.live_workers import WorkerReport, send_heartbeat
from jobs.config import Config
from jobs.dashboard.overview import Statuses
from jobs.dashboard.pages import Dashboard
from jobs.dashboard.security import Access
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches


async def test_batches_workers_and_limits_are_shown(night: Any, browser: Any, redis: Redis, config: Config) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)
    report = WorkerReport(host="attic", pid=7, since=1.0, in_flight=12, creates=590, reads=41)
    await send_heartbeat(redis, config.api_host, "w", 60, report)
    await send_heartbeat(redis, config.api_host, "dead", -60, WorkerReport(host="cellar", pid=8, since=1.0))
    await Account(redis, config.api_host).pause("<b>credit</b>")
    page = (await browser.get("/")).text
    assert 'href="/batches/night"' in page
    assert "attic 7" in page
    assert "<td>12</td>" in page
    assert '<div class="full"><dt>creates in the last minute</dt><dd><b>590</b> of 600' in page
    assert "<div><dt>reads in the last minute</dt><dd><b>41</b> of 3,000" in page
    assert "cellar 8" in page
    assert "silent since" in page
    assert "&lt;b&gt;credit&lt;/b&gt;" in page
    assert "<b>credit" not in page


async def test_without_a_batch_the_page_says_how_to_begin(browser: Any) -> None:
    assert "python -m jobs enqueue FILE" in (await browser.get("/")).text


async def test_a_wrong_file_of_schedules_is_shown(serve_dashboard: Any, tmp_path: Any) -> None:
    (tmp_path / "wrong.toml").write_text("[[")
    browser = await serve_dashboard(schedules=tmp_path / "wrong.toml")
    assert "wrong.toml" in (await browser.get("/")).text


async def test_a_batch_that_has_ended_is_read_once(night: Any, redis: Redis, config: Config) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)
    known = Statuses(Dashboard(config, redis, Access(frozenset())))
    (running,) = await known.read(["night", "noon"])
    assert running.finished_at is None
    await night.end(0, "cat")
    await Batches(redis).finish("night")
    (ended,) = await known.read(["night"])
    assert ended.state == "finished"
    assert (await known.read(["night"]))[0] is ended
    await Batches(redis).reopen("night", 1)
    assert (await known.read(["night"]))[0].finished_at is None


@pytest.mark.parametrize("damage", ["gone", "{", "[" * 100_000])
async def test_a_folder_that_is_gone_or_damaged_hides_no_other_batch(
    night: Any, browser: Any, redis: Redis, damage: str
) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)
    await night.end(0, "cat")
    if damage == "gone":
        shutil.rmtree(night.folder.path)
    else:
        night.folder.manifest.write_text(damage)
    page = await browser.get("/")
    assert page.status_code == 200
    assert 'href="/batches/night"' in page.text
    assert await Batches(redis).names() == ["night"]
