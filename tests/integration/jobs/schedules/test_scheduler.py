from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, enqueue
from jobs.errors import ScheduleError, StorageError
from jobs.notify.event import Event
from jobs.prices.setting import Prices
from jobs.queue.shard_queue import Queue
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.schedules import scheduler
from jobs.schedules.scheduler import Schedules, ScheduleStatus
from jobs.schedules.state import ScheduleStates
from jobs.state.batches import Batches

NIGHTLY = """
[[schedule]]
name = "nightly"
cron = "0 2 * * *"
file = "prompts.jsonl"
model = "owner/model"
timezone = "Europe/Berlin"
"""
DAY = 86_400.0

Write = Callable[..., None]


def at(text: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


NOON = at("2026-11-20T12:00:00+01:00")
TWO = at("2026-11-21T02:00:00+01:00")


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Config:
    return Config.load(
        redis_url=redis_url,
        output_dir=tmp_path / "outputs",
        schedules=tmp_path / "schedules.toml",
        fsync=False,
        model_check=False,
    )


@pytest.fixture
def write(config: Config) -> Write:
    """Write schedules.toml and the prompts file beside it."""

    def write(text: str = NIGHTLY, *, prompts: str = '{"prompt": "a"}\n{"prompt": "b"}\n') -> None:
        config.schedules.write_text(text, encoding="utf-8")
        config.schedules.with_name("prompts.jsonl").write_text(prompts, encoding="utf-8")

    write()
    return write


@pytest.fixture
def worker(redis: Redis, config: Config, write: Write) -> Callable[[], Schedules]:  # noqa: ARG001 - it has written
    """Start what a worker has of the schedules: each call is another process as far as they know."""
    return lambda: Schedules(redis, config)


def names(receipts: list[Receipt]) -> list[str]:
    return [receipt.batch for receipt in receipts]


async def overview(worker: Callable[[], Schedules], now: float = NOON) -> ScheduleStatus:
    (status,) = await worker().overview(now)
    return status


async def warnings(redis: Redis, config: Config, now: float) -> list[str]:
    """What `status` says of schedules."""
    return await ScheduleStates(redis, config.api_host).warnings(now)


async def finish(redis: Redis, batch: str) -> None:
    """Settle all its prompts and close it, as a worker does."""
    batches = Batches(redis)
    for index in range((await batches.get(batch)).total):
        await batches.settle(batch, index, "succeeded")
    assert await batches.finish(batch)


def crash(monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    """Let the next worker die when it enqueues: before it has done anything, or when all is done but noted."""

    class KilledError(BaseException):
        pass

    async def die(*arguments: Any) -> Receipt:
        if after:
            await enqueue(*arguments)
        raise KilledError

    monkeypatch.setattr(scheduler, "enqueue", die)


async def fire_and_die(
    worker: Callable[[], Schedules], monkeypatch: pytest.MonkeyPatch, now: float, *, after: bool
) -> None:
    with monkeypatch.context() as patch:
        crash(patch, after=after)
        with pytest.raises(BaseException, match=r"^$"):
            await worker().fire_due(now)


async def expire(redis: Redis, config: Config, due: float) -> None:
    """Let the time pass after which a fire time of a dead worker is free again."""
    key = keys.schedule(config.api_host, "nightly", int(due))
    assert 0 < await redis.ttl(key) <= scheduler.FIRING
    await redis.delete(key)


async def test_a_schedule_fires_when_its_time_comes_and_once(worker: Callable[[], Schedules], redis: Redis) -> None:
    one = worker()
    assert await one.fire_due(NOON) == []
    assert await one.fire_due(TWO - 1) == []
    (receipt,) = await one.fire_due(TWO + 0.4)
    assert (receipt.batch, receipt.total, receipt.enqueued) == ("nightly-2026-11-21T0200", 2, 2)
    assert await one.fire_due(TWO + 1.4) == await worker().fire_due(TWO + 3600) == []
    await finish(redis, receipt.batch)
    assert names(await one.fire_due(TWO + DAY)) == ["nightly-2026-11-22T0200"]
    batch = await Batches(redis).get("nightly-2026-11-22T0200")
    assert batch.total == 2


async def test_the_batch_has_the_files_prompts_and_the_schedules_model(
    worker: Callable[[], Schedules], config: Config
) -> None:
    await worker().fire_due(NOON)
    (receipt,) = await worker().fire_due(TWO)
    prompts = list(read_copy(Folder(config.output_dir, receipt.batch)))
    assert [(prompt.model, prompt.input) for prompt in prompts] == [
        ("owner/model", {"prompt": "a"}),
        ("owner/model", {"prompt": "b"}),
    ]


async def test_the_batch_has_the_schedules_limits(
    worker: Callable[[], Schedules], config: Config, redis: Redis, write: Write
) -> None:
    write(f"{NIGHTLY}max_predictions = 40\nmax_cost = 2.5\nmax_in_flight = 7\n")
    await worker().fire_due(NOON)
    assert await worker().fire_due(TWO) == []
    assert "line 1: owner/model has no price" in str((await overview(worker)).last_error)
    assert await Batches(redis).names() == []
    priced = config.model_copy(update={"prices": Prices.parse("owner/model=0.003")})
    (receipt,) = await Schedules(redis, priced).fire_due(TWO + DAY)
    batch = await Batches(redis).get(receipt.batch)
    assert (batch.max_predictions, batch.max_cost, batch.max_in_flight) == (40, 2_500_000, 7)


async def test_a_schedule_makes_many_rows_of_one_once(
    worker: Callable[[], Schedules], write: Write, config: Config, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever completes what another began does not make them of its copy again."""
    write(f'{NIGHTLY}each = ["seed=1..3"]\ntemplate = "a {{name}}"\n', prompts='{"name": "fox"}\n{"name": "hen"}\n')
    await worker().fire_due(NOON)
    with monkeypatch.context() as patch:
        crash(patch, after=True)
        with pytest.raises(BaseException, match=r"^$"):
            await worker().fire_due(TWO)
    await redis.delete(keys.schedule(config.api_host, "nightly", int(TWO)))
    (receipt,) = await worker().fire_due(TWO + 60)
    assert (receipt.total, receipt.enqueued) == (6, 0)
    rows = list(read_copy(Folder(config.output_dir, receipt.batch)))
    assert {(row.input["prompt"], row.input["seed"]) for row in rows} == {
        (f"a {name}", seed) for name in ("fox", "hen") for seed in (1, 2, 3)
    }


async def test_a_begun_batch_with_local_files_is_completed(
    worker: Callable[[], Schedules], write: Write, config: Config, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.schedules.with_name("fox.png").write_bytes(b"a fox")
    write(prompts='{"image": "@fox.png", "prompt": "a"}\n')
    await worker().fire_due(NOON)
    with monkeypatch.context() as patch:
        crash(patch, after=True)
        with pytest.raises(BaseException, match=r"^$"):
            await worker().fire_due(TWO)
    await redis.delete(keys.schedule(config.api_host, "nightly", int(TWO)))
    await Queue(redis, config.api_host).remove("nightly-2026-11-21T0200")
    config.schedules.with_name("fox.png").unlink()
    (receipt,) = await worker().fire_due(TWO + 60)
    assert (receipt.total, receipt.enqueued) == (1, 1)
    (row,) = read_copy(Folder(config.output_dir, receipt.batch))
    assert row.input["image"]["size"] == 5


@pytest.mark.parametrize(("prices", "words"), [("owner/model=0.2", "up to $1.20"), ("", "an amount that is not known")])
async def test_a_batch_that_may_cost_more_than_agreed_is_told(
    write: Write, config: Config, redis: Redis, prices: str, words: str
) -> None:
    write(f"{NIGHTLY}confirm_above = 1.19\n")
    config = config.model_copy(update={"prices": Prices.parse(prices)})
    await Schedules(redis, config).fire_due(NOON)
    assert await Schedules(redis, config).fire_due(TWO) == []
    (status,) = await Schedules(redis, config).overview(TWO + 60)
    assert status.last_error == f"it may cost {words}, and its confirm_above is $1.19"
    write(f"{NIGHTLY}confirm_above = 1.20\n")
    await redis.delete(keys.schedule(config.api_host, "nightly", int(TWO)))
    cheap = config.model_copy(update={"prices": Prices.parse("owner/model=0.2")})
    assert names(await Schedules(redis, cheap).fire_due(TWO + 61)) == ["nightly-2026-11-21T0200"]


async def test_a_new_schedule_does_not_fire_for_a_time_before_it_was_there(worker: Callable[[], Schedules]) -> None:
    assert await worker().fire_due(TWO + 1) == []
    assert await worker().fire_due(TWO + 3600) == []
    assert names(await worker().fire_due(TWO + DAY)) == ["nightly-2026-11-22T0200"]


async def test_nor_does_one_whose_times_were_changed(worker: Callable[[], Schedules], write: Write) -> None:
    await worker().fire_due(NOON - 7 * DAY)
    write(NIGHTLY.replace("0 2", "0 9"))
    assert await worker().fire_due(NOON) == []
    assert names(await worker().fire_due(NOON + DAY)) == ["nightly-2026-11-21T0900"]


async def test_another_model_or_file_is_no_new_schedule(worker: Callable[[], Schedules], write: Write) -> None:
    await worker().fire_due(NOON)
    write(NIGHTLY.replace("owner/model", "owner/other") + 'overlap = "allow"\n')
    assert len(await worker().fire_due(TWO + 60)) == 1


async def test_a_changed_file_is_read_by_workers_that_are_up(
    worker: Callable[[], Schedules], write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    up = worker()
    await up.fire_due(NOON)
    write(NIGHTLY.replace("0 2", "0 3").replace('"nightly"', '"later"') + 'overlap = "allow"\n')
    assert await up.fire_due(NOON + 60) == []
    assert await up.fire_due(TWO) == []
    assert names(await up.fire_due(TWO + 3600)) == ["later-2026-11-21T0300"]
    with caplog.at_level(logging.INFO):
        write("nonsense")
        for _ in range(3):
            assert await up.fire_due(TWO + 3700) == []
        assert caplog.text.count("these stay in force: later") == 1
        assert names(await up.fire_due(TWO + 3600 + DAY)) == ["later-2026-11-22T0300"]
        write("")
        assert await up.fire_due(TWO + 3600 + 2 * DAY) == []
        assert "schedules: none" in caplog.text


async def test_new_times_of_a_schedule_count_from_when_they_were_read(
    worker: Callable[[], Schedules], write: Write
) -> None:
    up = worker()
    await up.fire_due(NOON)
    write(NIGHTLY.replace("0 2 * * *", "0 11 * * *"))
    assert await up.fire_due(NOON + 60) == []
    assert names(await up.fire_due(NOON + DAY)) == ["nightly-2026-11-21T1100"]


async def test_a_file_that_appears_is_read(worker: Callable[[], Schedules], write: Write, config: Config) -> None:
    config.schedules.unlink()
    up = worker()
    assert await up.fire_due(NOON) == []
    write()
    assert await up.fire_due(NOON + 60) == []
    assert names(await up.fire_due(TWO)) == ["nightly-2026-11-21T0200"]


async def test_many_workers_fire_once(worker: Callable[[], Schedules]) -> None:
    workers = [worker() for _ in range(8)]
    await asyncio.gather(*(one.fire_due(NOON) for one in workers))
    for now in (TWO, TWO + 0.3, TWO + 1):
        fired = await asyncio.gather(*(one.fire_due(now) for one in workers))
        assert sum(map(len, fired)) == (1 if now == TWO else 0)


async def test_while_a_new_file_is_rolled_out_both_times_fire(
    worker: Callable[[], Schedules], redis: Redis, config: Config
) -> None:
    """Two machines, each with a file of its own."""
    old = worker()
    await old.fire_due(NOON)
    rolled_out = config.schedules.with_name("new.toml")
    rolled_out.write_text(NIGHTLY.replace("0 2", "0 3").replace("timezone", 'overlap = "allow"\ntimezone'))
    new = Schedules(redis, config.model_copy(update={"schedules": rolled_out}))
    fired = []
    for now in (NOON + 1, NOON + 2, TWO, TWO + 1, TWO + 3600, TWO + 3601):
        fired += await new.fire_due(now)
        fired += await old.fire_due(now)
    assert names(fired) == ["nightly-2026-11-21T0200", "nightly-2026-11-21T0300"]


async def test_of_the_times_missed_only_the_last_is_caught_up(worker: Callable[[], Schedules]) -> None:
    await worker().fire_due(NOON)
    back = worker()
    assert names(await back.fire_due(TWO + 3 * DAY + 5 * 3600)) == ["nightly-2026-11-24T0200"]
    assert await back.fire_due(TWO + 3 * DAY + 5 * 3600 + 1) == []


@pytest.mark.parametrize(("late", "fires"), [(0, 1), (45, 1), (61, 0), (3600, 0)])
async def test_without_catch_up_only_a_fresh_time_counts(
    worker: Callable[[], Schedules], write: Write, late: float, fires: int
) -> None:
    write(NIGHTLY + "catch_up = false\n")
    await worker().fire_due(NOON)
    assert len(await worker().fire_due(TWO + late)) == fires
    misses = (await overview(worker, TWO + late)).misses
    assert [miss.reason for miss in misses] == ["no worker was up in time, and catch_up is false"] * (1 - fires)
    assert len(await worker().fire_due(TWO + DAY)) == 1 - fires


async def test_one_that_still_runs_is_not_overtaken(
    worker: Callable[[], Schedules], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    one = worker()
    await one.fire_due(NOON)
    await one.fire_due(TWO)
    with caplog.at_level(logging.INFO, "jobs.schedules.scheduler"):
        assert await one.fire_due(TWO + DAY) == await one.fire_due(TWO + DAY + 1) == []
    (line,) = caplog.messages
    assert "nightly-2026-11-22T0200 is skipped: nightly-2026-11-21T0200 was not finished" in line
    status = await overview(worker, TWO + DAY)
    assert status.last == "2026-11-22T02:00:00+01:00"
    assert status.last_batch == "nightly-2026-11-21T0200"
    assert "was skipped" in (status.last_error or "")
    await finish(redis, "nightly-2026-11-21T0200")
    assert await one.fire_due(TWO + DAY + 60) == []
    assert names(await one.fire_due(TWO + 2 * DAY)) == ["nightly-2026-11-23T0200"]
    assert (await overview(worker)).last_error is None


async def test_a_deleted_batch_stops_nothing(worker: Callable[[], Schedules], redis: Redis) -> None:
    one = worker()
    await one.fire_due(NOON)
    (receipt,) = await one.fire_due(TWO)
    await Batches(redis).delete(receipt.batch)
    assert len(await one.fire_due(TWO + DAY)) == 1


async def test_overlap_may_be_allowed(worker: Callable[[], Schedules], write: Write) -> None:
    write(NIGHTLY + 'overlap = "allow"\n')
    one = worker()
    await one.fire_due(NOON)
    assert len(await one.fire_due(TWO)) == len(await one.fire_due(TWO + DAY)) == 1


async def test_a_bad_prompts_file_is_told_and_tried_again_until_the_next_time(
    worker: Callable[[], Schedules], write: Write, config: Config, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    both = NIGHTLY + NIGHTLY.replace('"nightly"', '"other"').replace("prompts.jsonl", "schedules.txt")
    config.schedules.with_name("schedules.txt").write_text("a sea\n", encoding="utf-8")
    write(both)
    one = worker()
    await one.fire_due(NOON)
    write(both, prompts='{"prompt": "a"}\nno json\n')
    assert names(await one.fire_due(TWO)) == ["other-2026-11-21T0200"]
    assert await one.fire_due(TWO + 1) == []
    await expire(redis, config, TWO)
    assert await one.fire_due(TWO + 40) == []
    assert caplog.text.count("line 2") == 1
    status = (await one.overview(TWO + 40))[0]
    assert "line 2" in (status.last_error or "")
    assert (status.last, status.last_batch, status.misses) == (None, None, [])
    write(both)
    await expire(redis, config, TWO)
    assert names(await one.fire_due(TWO + 3600)) == ["nightly-2026-11-21T0200"]
    status = (await one.overview(TWO + 3600))[0]
    assert (status.last_error, status.last_batch, status.misses) == (None, "nightly-2026-11-21T0200", [])


async def test_a_missing_prompts_file_is_said_before_the_night_and_made_up_for_when_it_comes(
    worker: Callable[[], Schedules], config: Config, write: Write, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    config.schedules.with_name("prompts.jsonl").unlink()
    one = worker()
    assert await one.fire_due(NOON) == []
    assert "there is no file" in caplog.text
    assert "prompts.jsonl" in ((await overview(worker)).problem or "")
    assert await one.fire_due(TWO) == await one.fire_due(TWO + 1) == []
    warning, _ = await warnings(redis, config, TWO + 1)
    assert "nightly-2026-11-21T0200 is not enqueued yet: " in warning
    assert "prompts.jsonl" in warning
    write()
    await expire(redis, config, TWO)
    assert names(await worker().fire_due(TWO + DAY - 1)) == ["nightly-2026-11-21T0200"]
    assert await warnings(redis, config, TWO + DAY) == []


async def test_what_was_missed_is_shown_after_the_next_success(
    worker: Callable[[], Schedules], config: Config, write: Write, redis: Redis
) -> None:
    write(NIGHTLY + 'overlap = "allow"\n')
    one = worker()
    await one.fire_due(NOON)
    config.schedules.with_name("prompts.jsonl").unlink()
    for day in range(7):
        assert await one.fire_due(TWO + day * DAY) == []
    write(NIGHTLY + 'overlap = "allow"\n')
    assert names(await one.fire_due(TWO + 7 * DAY)) == ["nightly-2026-11-28T0200"]
    status = await overview(worker, TWO + 7 * DAY)
    assert (status.last_error, status.last_batch) == (None, "nightly-2026-11-28T0200")
    assert [miss.batch for miss in status.misses] == [f"nightly-2026-11-{day}T0200" for day in range(23, 28)]
    assert status.misses[0].time == "2026-11-23T02:00:00+01:00"
    assert all("prompts.jsonl" in miss.reason for miss in status.misses)
    text, more = await warnings(redis, config, TWO + 7 * DAY)
    assert text.startswith("Schedules: nightly-2026-11-27T0200 was missed: ")
    assert text.endswith("; 4 more before it")
    assert more == "`python -m jobs schedules` says more."
    assert await warnings(redis, config, TWO + 14 * DAY) == []


async def test_a_batch_that_was_begun_is_completed_also_after_the_next_time(
    worker: Callable[[], Schedules], config: Config, write: Write, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_late(*arguments: Any) -> Receipt:
        await enqueue(*arguments)
        raise StorageError("the disk is full", config.output_dir)

    write(NIGHTLY + 'overlap = "allow"\n')
    one = worker()
    await one.fire_due(NOON)
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "enqueue", fail_late)
        assert await one.fire_due(TWO) == []
    await expire(redis, config, TWO)
    assert names(await one.fire_due(TWO + DAY)) == ["nightly-2026-11-21T0200"]
    assert names(await one.fire_due(TWO + DAY + 1)) == ["nightly-2026-11-22T0200"]


async def test_one_wrong_schedule_is_no_other_ones_business(
    worker: Callable[[], Schedules], config: Config, write: Write, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    other = NIGHTLY.replace('"nightly"', '"other"')
    write(NIGHTLY + other)
    one = worker()
    await one.fire_due(NOON)
    write(NIGHTLY.replace("0 2", "0 0 2") + other)
    for up in (one, worker()):
        await up.fire_due(NOON + 60)
    assert names(await one.fire_due(TWO)) == ["other-2026-11-21T0200"]
    assert caplog.text.count("line 4: cron: '0 0 2 * * *' has 6 fields") == 2, "once in each worker's log"
    text, _ = await warnings(redis, config, TWO)
    assert text == (
        f"Schedules: {config.schedules}: 1 error; line 4: cron: '0 0 2 * * *' has 6 fields; "
        "cron takes five: minute, hour, day of month, month, day of week"
    )
    wrong, right = await one.overview(TWO)
    assert (wrong.name, wrong.next, wrong.last) == ("nightly", None, None)
    assert "6 fields" in (wrong.problem or "")
    assert (right.name, right.problem) == ("other", None)
    write(NIGHTLY + other)
    assert names(await one.fire_due(TWO + 3600)) == ["nightly-2026-11-21T0200"], "mended, and made up for"
    assert await warnings(redis, config, TWO + 3600) == []


async def test_what_nobody_expected_of_one_schedule_stops_no_other(
    worker: Callable[[], Schedules], write: Write, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_for_one(order: Order, *rest: Any) -> Receipt:
        if order.batch.startswith("nightly"):
            raise KeyError("a mistake")
        return await enqueue(order, *rest)

    write(NIGHTLY + NIGHTLY.replace('"nightly"', '"other"'))
    one = worker()
    await one.fire_due(NOON)
    monkeypatch.setattr(scheduler, "enqueue", fail_for_one)
    with pytest.raises(KeyError, match="a mistake"):
        await one.fire_due(TWO)
    assert await Batches(redis).names() == ["other-2026-11-21T0200"]


async def test_a_file_that_is_none_fires_nothing_until_it_is_mended(
    worker: Callable[[], Schedules], config: Config, write: Write, redis: Redis
) -> None:
    await worker().fire_due(NOON)
    write("[[schedule")
    up = worker()
    assert await up.fire_due(TWO) == []
    (text, _) = await warnings(redis, config, TWO)
    assert "1 error; line 1" in text
    with pytest.raises(ScheduleError, match="line 1"):
        await up.overview(TWO)
    write()
    assert names(await up.fire_due(TWO + 60)) == ["nightly-2026-11-21T0200"]
    assert await warnings(redis, config, TWO + 60) == []


async def test_the_state_of_the_version_before_is_read(
    worker: Callable[[], Schedules], redis: Redis, config: Config
) -> None:
    old = {"times": "0 2 * * * Europe/Berlin", "seen": NOON, "firing": None, "due": int(TWO), "error": None}
    row = json.dumps(old | {"batch": "nightly-2026-11-21T0200"})
    await redis.hset(keys.schedules(config.api_host), "nightly", row)
    assert (await overview(worker)).last_batch == "nightly-2026-11-21T0200"
    assert await worker().fire_due(TWO + 60) == []
    assert names(await worker().fire_due(TWO + DAY)) == ["nightly-2026-11-22T0200"]


async def test_a_folder_that_cannot_be_written_is_tried_again(
    worker: Callable[[], Schedules], config: Config, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    one = worker()
    await one.fire_due(NOON)
    config.output_dir.write_text("in the way", encoding="utf-8")
    assert await one.fire_due(TWO) == await one.fire_due(TWO + 1) == []
    assert caplog.text.count("is retried until the next time") == 1
    status = await overview(worker, TWO)
    assert status.last is None
    assert status.last_error
    config.output_dir.unlink()
    await expire(redis, config, TWO)
    assert names(await one.fire_due(TWO + 40)) == ["nightly-2026-11-21T0200"]
    assert (await overview(worker, TWO)).last_error is None


@pytest.mark.parametrize("dies", ["before", "after"])
@pytest.mark.parametrize("late", [31, 7200, 30 * 3600])
async def test_a_worker_that_dies_while_it_fires_loses_nothing(
    worker: Callable[[], Schedules],
    redis: Redis,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    late: float,
    dies: str,
) -> None:
    await worker().fire_due(NOON)
    await fire_and_die(worker, monkeypatch, TWO, after=dies == "after")
    next_one = worker()
    assert await next_one.fire_due(TWO + 1) == []
    await expire(redis, config, TWO)
    (receipt,) = await next_one.fire_due(TWO + late)
    assert (receipt.batch, receipt.total) == ("nightly-2026-11-21T0200", 2)
    assert await redis.zcard(keys.queue(config.api_host)) == 1
    await finish(redis, receipt.batch)
    later = names(await next_one.fire_due(TWO + late + 1))
    assert later == (["nightly-2026-11-22T0200"] if late > DAY else [])


async def test_what_was_begun_is_completed_as_it_was_begun(
    worker: Callable[[], Schedules],
    redis: Redis,
    config: Config,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await worker().fire_due(NOON)
    await fire_and_die(worker, monkeypatch, TWO, after=True)
    await redis.delete(keys.queue(config.api_host))
    await expire(redis, config, TWO)
    write(
        NIGHTLY.replace("0 2", "30 4").replace("Berlin", "London") + "catch_up = false\n",
        prompts='{"prompt": "another"}\n{"prompt": "b"}\n{"prompt": "c"}\n',
    )
    (receipt,) = await worker().fire_due(TWO + 9000)
    assert (receipt.batch, receipt.total, receipt.shards) == ("nightly-2026-11-21T0200", 2, 1)
    inputs = [prompt.input["prompt"] for prompt in read_copy(Folder(config.output_dir, receipt.batch))]
    assert inputs == ["a", "b"]
    assert await worker().fire_due(TWO + 9001) == []


async def test_a_long_enqueue_keeps_its_fire_time(
    worker: Callable[[], Schedules],
    redis: Redis,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    await worker().fire_due(NOON)
    key = keys.schedule(config.api_host, "nightly", int(TWO))

    async def slow(*arguments: Any) -> Receipt:
        await redis.expire(key, 1000)

        async def renewed() -> bool:
            return bool(await redis.ttl(key) <= 3)

        await eventually(renewed)
        return await enqueue(*arguments)

    monkeypatch.setattr(scheduler, "enqueue", slow)
    assert len(await Schedules(redis, config, firing=3).fire_due(TWO)) == 1
    assert await redis.ttl(key) > 86_400
    assert await redis.get(key) == b"nightly-2026-11-21T0200"


async def test_an_emptied_redis_makes_schedules_new(worker: Callable[[], Schedules], redis: Redis) -> None:
    one = worker()
    await one.fire_due(NOON)
    await one.fire_due(TWO)
    await redis.flushall()
    assert await one.fire_due(TWO + 3600) == []
    assert len(await one.fire_due(TWO + DAY)) == 1


async def test_every_api_host_has_its_own_schedules(
    worker: Callable[[], Schedules], redis: Redis, config: Config
) -> None:
    await worker().fire_due(NOON)
    other = Schedules(redis, config.model_copy(update={"replicate_base_url": "http://127.0.0.1:5555"}))
    assert await other.fire_due(TWO + 1) == []
    assert len(await worker().fire_due(TWO)) == 1


@pytest.mark.parametrize(
    ("cron", "since", "until", "expected"),
    [
        ("30 2 * * *", "2026-03-29T00:00:00+01:00", "2026-03-29T06:00:00+02:00", ["2026-03-29T0300"]),
        ("30 2 * * *", "2026-10-25T00:00:00+02:00", "2026-10-25T06:00:00+01:00", ["2026-10-25T0230"]),
        (
            "*/30 2 * * *",
            "2026-10-25T00:00:00+02:00",
            "2026-10-25T06:00:00+01:00",
            ["2026-10-25T0200", "2026-10-25T0230", "2026-10-25T0200b", "2026-10-25T0230b"],
        ),
        ("*/30 2 * * *", "2026-03-29T00:00:00+01:00", "2026-03-29T06:00:00+02:00", []),
    ],
)
async def test_when_the_clocks_change(
    worker: Callable[[], Schedules], write: Write, cron: str, since: str, until: str, expected: list[str]
) -> None:
    write(NIGHTLY.replace("0 2 * * *", cron) + 'overlap = "allow"\n')
    one, fired = worker(), []
    for now in range(int(at(since)), int(at(until)), 60):
        fired += await one.fire_due(now)
    assert names(fired) == [f"nightly-{label}" for label in expected]


async def test_the_overview_tells_next_and_last(worker: Callable[[], Schedules], config: Config) -> None:
    assert (await overview(worker)).model_dump() == {
        "name": "nightly",
        "cron": "0 2 * * *",
        "timezone": "Europe/Berlin",
        "file": str(config.schedules.with_name("prompts.jsonl")),
        "next": "2026-11-21T02:00:00+01:00",
        "last": None,
        "last_batch": None,
        "last_error": None,
        "problem": None,
        "misses": [],
    }
    await worker().fire_due(NOON)
    await worker().fire_due(TWO)
    status = await overview(worker, TWO + 1)
    assert (status.next, status.last) == ("2026-11-22T02:00:00+01:00", "2026-11-21T02:00:00+01:00")
    assert status.last_batch == "nightly-2026-11-21T0200"
    assert json.loads(status.model_dump_json())["last_error"] is None


async def test_looking_changes_nothing(worker: Callable[[], Schedules], redis: Redis) -> None:
    await overview(worker)
    assert await redis.keys() == []


async def test_without_a_file_there_is_nothing_to_do(redis: Redis, config: Config) -> None:
    none = Schedules(redis, config)
    assert await none.fire_due(NOON) == []
    assert await none.overview(NOON) == []


@pytest.fixture
def announced(redis: Redis, config: Config, write: Write) -> tuple[Schedules, list[Event]]:  # noqa: ARG001 - it has written
    """A worker's schedules, and the events that people are notified of."""
    events = list[Event]()

    async def announce(event: Event) -> None:
        events.append(event)

    return Schedules(redis, config, announce=announce), events


async def test_people_are_notified_of_what_does_not_fire(
    announced: tuple[Schedules, list[Event]], write: Write
) -> None:
    schedules, events = announced
    await schedules.fire_due(NOON)
    write(prompts="")
    for late in (0, 1, DAY):
        await schedules.fire_due(TWO + late)
    ids = list(dict.fromkeys(event.id for event in events))
    assert ids == [f"missed:nightly:{int(TWO)}", f"missed:nightly:{int(TWO + DAY)}"]
    assert events[0].batch == "nightly-2026-11-21T0200"
    assert "is tried again" in events[0].text


async def test_people_are_notified_of_a_skipped_time_and_of_a_wrong_file(
    announced: tuple[Schedules, list[Event]], write: Write
) -> None:
    schedules, events = announced
    for now in (NOON, TWO, TWO + DAY):
        await schedules.fire_due(now)
    (skipped,) = events
    assert skipped.lines[0] == "nightly-2026-11-21T0200 was not finished"
    write(NIGHTLY + "max_cots = 3\n")
    for _ in range(2):
        await schedules.fire_due(TWO + DAY + 60)
    (_, wrong) = events
    assert "max_cots" in wrong.text
