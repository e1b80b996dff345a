from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from jobs.account.account import Account
from jobs.account.live_workers import remove_worker, send_heartbeat
from jobs.errors import BatchNotFound
from jobs.events import log
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import KEEP_FINISHED, Batches, Bits, Spent
from jobs.state.ledger import Entry, Ledger
from jobs.state.pending import read_pending
from jobs.state.status import read_status
from jobs.wire import NO_WORKER, Batch, Outcome

CATS = Batch("cats", "id-1", "api", 1000.0, 3, 0, 1.0)


@pytest.fixture
async def batches(redis: Redis) -> Batches:
    batches = Batches(redis)
    await batches.open(CATS)
    return batches


async def settle_all(batches: Batches) -> None:
    outcomes: tuple[Outcome, ...] = ("succeeded", "failed", "canceled")
    for index, outcome in enumerate(outcomes):
        await batches.settle("cats", index, outcome)


async def retry_counts(redis: Redis) -> dict[int, int]:
    return {index: found.retry_count for index, found in (await read_pending(redis, "cats", range(3))).items()}


async def test_what_is_opened_is_what_is_found(batches: Batches) -> None:
    assert await batches.get("cats") == CATS
    assert await batches.find("dogs") is None


async def test_opening_again_changes_nothing(batches: Batches) -> None:
    assert await batches.open(replace(CATS, id="other", total=99)) == CATS


async def test_an_unknown_batch_is_named_with_those_that_are_known(batches: Batches, redis: Redis) -> None:
    with pytest.raises(BatchNotFound, match="'dogs'; known are: cats"):
        await batches.get("dogs")
    await redis.flushall()
    with pytest.raises(BatchNotFound, match="none yet"):
        await batches.get("dogs")


async def test_names_are_newest_first_and_forget_the_expired(batches: Batches, redis: Redis) -> None:
    await batches.open(replace(CATS, name="dogs", created_at=2000.0))
    assert await batches.names() == ["dogs", "cats"]
    await redis.delete(keys.batch("dogs"))
    assert await batches.names() == ["cats"]
    assert await redis.zcard(keys.BATCHES) == 1


async def test_a_result_is_counted_once_however_often_it_is_settled(batches: Batches) -> None:
    counted = await asyncio.gather(*(batches.settle("cats", 1, "failed") for _ in range(5)))
    assert sum(counted) == 1
    assert (await batches.get("cats")).failed == 1
    settled = await batches.settled("cats")
    assert (1 in settled, 0 in settled) == (True, False)


async def test_the_costs_of_results_are_counted_by_model(batches: Batches, redis: Redis) -> None:
    for _ in range(2):
        await batches.settle("cats", 0, "succeeded", spent=Spent(1, 300, model="a/b"))
        await batches.settle("cats", 1, "succeeded", spent=Spent(1, 20, model="a/b:1"))
        await batches.settle("cats", 2, "failed", spent=Spent(2, 4, model="a/b"))
    found = await batches.get("cats")
    assert (found.model_costs, found.unpriced) == ({"a/b": 304, "a/b:1": 20}, 0)
    async with redis.pipeline() as pipe:
        await batches.unsettle("cats", 2, "failed", pipe)
        await pipe.execute()
    await batches.settle("cats", 2, "succeeded", spent=Spent(1, None, model="c/d"))
    found = await batches.get("cats")
    assert (found.model_costs, found.cost, found.unpriced) == ({"a/b": 304, "a/b:1": 20}, 324, 1)
    status = await read_status(redis, found)
    assert (status.model_costs, status.cost_is_partial) == ({"a/b": 0.000304, "a/b:1": 0.00002}, True)


async def test_settling_sets_both_bitmaps(batches: Batches) -> None:
    await settle_all(batches)
    settled, unsuccessful = await batches.settled("cats"), await batches.unsuccessful("cats")
    assert (len(settled), len(unsuccessful)) == (3, 2)
    assert 0 in settled
    assert 0 not in unsuccessful
    assert settled.count(range(1, 10)) == 2
    assert (await batches.get("cats")).settled == 3


async def test_settling_closes_the_ledger(batches: Batches, redis: Redis) -> None:
    await Ledger(redis, "api", "cats", "id-1", 0).intend(Entry())
    assert await batches.in_flight("cats") == 1
    await batches.settle("cats", 0, "succeeded")
    assert await batches.in_flight("cats") == 0


async def test_a_deleted_batch_counts_nothing_more(batches: Batches, redis: Redis) -> None:
    await batches.delete("cats")
    assert not await batches.settle("cats", 0, "succeeded")
    assert await redis.keys("*cats*") == []


async def test_taking_a_result_back_is_done_once(batches: Batches, redis: Redis) -> None:
    await settle_all(batches)
    for _ in range(2):
        async with redis.pipeline(transaction=True) as pipe:
            await batches.unsettle("cats", 1, "failed", pipe)
            await pipe.execute()
    batch = await batches.get("cats")
    assert (batch.failed, batch.settled) == (0, 2)
    assert 1 not in await batches.unsuccessful("cats")


async def test_a_result_that_was_taken_back_is_not_counted_by_a_late_call(batches: Batches, redis: Redis) -> None:
    assert await retry_counts(redis) == {0: 0, 1: 0, 2: 0}
    await batches.settle("cats", 1, "failed", retry_count=0)
    assert await retry_counts(redis) == {0: 0, 2: 0}
    async with redis.pipeline(transaction=True) as pipe:
        for _ in range(2):
            await batches.unsettle("cats", 1, "failed", pipe)
        await pipe.execute()
    assert await retry_counts(redis) == {0: 0, 1: 1, 2: 0}
    assert not await batches.settle("cats", 1, "failed", retry_count=0)
    assert (await batches.get("cats")).failed == 0
    assert await batches.settle("cats", 1, "succeeded", retry_count=1)


async def test_a_batch_finishes_only_when_all_is_settled(batches: Batches, redis: Redis) -> None:
    await batches.settle("cats", 0, "succeeded")
    assert not await batches.finish("cats")
    assert (await batches.get("cats")).finished_at is None
    await settle_all(batches)
    assert await batches.finish("cats")
    first = (await batches.get("cats")).finished_at
    assert not await batches.finish("cats")
    assert (await batches.get("cats")).finished_at == first
    for key in (keys.batch("cats"), keys.settled("cats"), keys.unsuccessful("cats")):
        assert 0 < await redis.ttl(key) <= KEEP_FINISHED


async def test_a_new_generation_opens_the_batch_again(batches: Batches, redis: Redis) -> None:
    await settle_all(batches)
    await batches.request_cancel("cats")
    await batches.finish("cats")
    await batches.reopen("cats", 1)
    batch = await batches.get("cats")
    assert (batch.finished_at, batch.cancel_requested, batch.generation) == (None, False, 1)
    assert await redis.ttl(keys.batch("cats")) == -1


async def test_workers_see_how_a_batch_stands(batches: Batches, redis: Redis) -> None:
    assert await batches.standing("cats", "id-1") == "open"
    assert await batches.standing("cats", "id-0") == "replaced"
    await batches.set_budget("cats", None, None, 3)
    assert await batches.standing("cats", "id-1") == "limited"
    await batches.request_cancel("cats")
    assert await batches.standing("cats", "id-1") == "canceled"
    await batches.delete("cats")
    assert await batches.standing("cats", "id-1") == "gone"
    await batches.request_cancel("cats")
    assert await redis.keys("*cats*") == []


async def test_the_results_of_an_older_batch_of_that_name_are_not_counted(batches: Batches) -> None:
    assert not await batches.settle("cats", 0, "succeeded", "id-0")
    assert await batches.settle("cats", 0, "succeeded", "id-1")


@pytest.fixture
def mid_span(monkeypatch: pytest.MonkeyPatch) -> int:
    """Time stands still, two seconds into a span."""
    monkeypatch.setattr(time, "time", lambda: 1_000_002.0)
    return 1_000_000 // keys.PACE_SPAN


async def test_the_pace_is_that_of_the_last_minute(batches: Batches, redis: Redis, mid_span: int) -> None:
    for back, count in ((0, 6), (3, 25), (12, 31), (13, 1000)):
        await redis.set(keys.pace("cats", mid_span - back), count)
    assert await batches.rate_per_minute("cats") == 60.0


async def test_the_pace_of_a_young_batch_counts_from_its_first_result(
    batches: Batches, redis: Redis, mid_span: int
) -> None:
    assert await batches.rate_per_minute("cats") == 0.0
    await redis.set(keys.pace("cats", mid_span), 1)
    assert await batches.rate_per_minute("cats") == 12.0
    await redis.set(keys.pace("cats", mid_span - 2), 119)
    assert await batches.rate_per_minute("cats") == 600.0


def test_bits_are_numbered_from_the_highest_of_the_first_byte() -> None:
    bits = Bits(b"\x80\x01")
    assert [index for index in range(40) if index in bits] == [0, 15]
    assert len(bits) == 2


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\xff\xff\xff", b"\x00\x01\x80", b"\x10"])
def test_bits_that_are_missing_are_those_that_are_not_set(data: bytes) -> None:
    bits = Bits(data)
    for first in range(30):
        for last in range(first, 30):
            expected = [index for index in range(first, last) if index not in bits]
            assert bits.missing(range(first, last)) == expected


class TestAccount:
    async def test_the_first_reason_of_a_pause_stays_until_it_is_lifted(self, redis: Redis) -> None:
        account = Account(redis, "api")
        assert await account.pause("no credit")
        assert not await account.pause("something else")
        assert await account.pause_reason() == "no credit"
        assert await Account(redis, "other").pause_reason() is None
        assert await account.resume()
        assert not await account.resume()
        assert await account.pause_reason() is None

    async def test_trouble_passes_by_itself_and_by_resume(self, redis: Redis) -> None:
        account = Account(redis, "api")
        await account.report_trouble("the disk is full")
        assert await account.trouble() == "the disk is full"
        assert 0 < await redis.ttl(keys.trouble("api")) <= 30
        await account.resume()
        assert await account.trouble() is None

    async def test_a_notice_holds_nothing_back_and_shows_as_the_reason(self, redis: Redis) -> None:
        account = Account(redis, "api")
        await Batches(redis).open(CATS)
        await account.set_notice("the API does not answer")
        assert (await read_status(redis, CATS)).reason == "the API does not answer"
        assert await account.trouble() is None
        assert 0 < await redis.ttl(keys.notice("api")) <= 30
        await account.clear_notice()
        assert (await read_status(redis, CATS)).reason == NO_WORKER

    async def test_live_workers_are_counted(self, redis: Redis) -> None:
        account = Account(redis, "api")
        await send_heartbeat(redis, "api", "a", 15)
        await send_heartbeat(redis, "api", "b", 15)
        await send_heartbeat(redis, "api", "dead", -1)
        assert await account.workers() == 2
        await remove_worker(redis, "api", "a")
        assert await account.workers() == 1


class TestStatus:
    async def test_a_new_batch_is_queued(self, batches: Batches, redis: Redis) -> None:
        status = await read_status(redis, await batches.get("cats"))
        assert (status.state, status.waiting, status.in_flight, status.workers) == ("queued", 3, 0, 0)
        assert (status.created_at, status.eta) == ("1970-01-01T00:16:40.000Z", None)

    async def test_a_batch_in_work_is_running(self, batches: Batches, redis: Redis) -> None:
        await Ledger(redis, "api", "cats", "id-1", 0).intend(Entry())
        status = await read_status(redis, await batches.get("cats"))
        assert (status.state, status.waiting, status.in_flight) == ("running", 2, 1)

    async def test_a_pause_shows_with_its_reason(self, batches: Batches, redis: Redis) -> None:
        await Account(redis, "api").pause("no credit")
        status = await read_status(redis, await batches.get("cats"))
        assert (status.state, status.reason) == ("paused", "no credit")

    async def test_a_batch_that_is_paused_itself_shows_it_and_its_reason(self, batches: Batches, redis: Redis) -> None:
        assert await batches.pause("cats", "id-1", "lunch")
        assert not await batches.pause("cats", "id-1", "tea"), "the first reason stays"
        status = await read_status(redis, await batches.get("cats"))
        assert (status.state, status.reason, status.paused) == ("paused", "lunch", "lunch")
        assert await batches.standing("cats", "id-1") == "paused"
        assert not await batches.pause("cats", "another", None)
        assert await batches.pause("cats", "id-1", None)
        assert not await batches.pause("cats", "id-1", None)
        assert (await read_status(redis, await batches.get("cats"))).state == "queued"
        events = [(event.event, event.message) for event in await log.read(redis, "cats")]
        assert events == [("paused", "lunch"), ("resumed", "a person resumed the batch")]

    async def test_its_end_a_cancel_and_a_retry_clear_a_pause(self, batches: Batches) -> None:
        await batches.pause("cats", "id-1", "lunch")
        await batches.request_cancel("cats")
        assert (await batches.get("cats")).paused is None
        assert not await batches.pause("cats", "id-1", "lunch"), "it is being canceled"
        await batches.reopen("cats", 1)
        await batches.pause("cats", "id-1", "lunch")
        await batches.reopen("cats", 2)
        assert await batches.standing("cats", "id-1") == "open"
        await batches.pause("cats", "id-1", "lunch")
        await settle_all(batches)
        await batches.finish("cats")
        assert (await batches.get("cats")).paused is None
        assert not await batches.pause("cats", "id-1", "lunch"), "it is finished"

    async def test_what_does_not_go_on_has_no_eta(self, batches: Batches, redis: Redis) -> None:
        account = Account(redis, "api")

        async def has_eta() -> bool:
            return (await read_status(redis, await batches.get("cats"))).eta is not None

        await batches.settle("cats", 0, "succeeded")
        assert not await has_eta(), "no worker"
        await send_heartbeat(redis, "api", "w", 60)
        assert await has_eta()
        await account.pause("no credit")
        assert not await has_eta()
        await account.resume()
        await account.report_trouble("the disk is full")
        assert not await has_eta()

    async def test_trouble_shows_as_the_reason(self, batches: Batches, redis: Redis) -> None:
        await Account(redis, "api").report_trouble("the disk is full")
        status = await read_status(redis, await batches.get("cats"))
        assert (status.state, status.reason) == ("queued", "the disk is full")

    async def test_canceling_shows_until_it_is_done(self, batches: Batches, redis: Redis) -> None:
        await batches.request_cancel("cats")
        assert (await read_status(redis, await batches.get("cats"))).reason == "is being canceled"
        await settle_all(batches)
        await batches.finish("cats")
        assert (await read_status(redis, await batches.get("cats"))).state == "canceled"

    async def test_a_finished_batch_has_no_eta(self, batches: Batches, redis: Redis) -> None:
        await settle_all(batches)
        await batches.finish("cats")
        status = await read_status(redis, await batches.get("cats"))
        assert (status.state, status.eta, status.succeeded, status.failed) == ("finished", None, 1, 1)
        assert status.finished_at
