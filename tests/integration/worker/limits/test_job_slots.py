"""Which shards make room for others, which are put back, and which are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from jobs.config import Config
from jobs.redis_client import keys
from worker.leases import Leases
from worker.limits import job_slots
from worker.limits.job_slots import Hand, JobSlots

A, B = frozenset({"model limit a"}), frozenset({"model limit b"})


@pytest.fixture
def config(redis_url: str, tmp_path: Path) -> Config:
    (tmp_path / "outputs").mkdir()
    return Config.load(redis_url=redis_url, output_dir=tmp_path / "outputs")


@pytest.fixture
def slots(redis: Redis, config: Config, monkeypatch: pytest.MonkeyPatch) -> JobSlots:
    monkeypatch.setattr(job_slots, "STEP_ASIDE", 0.0)
    return JobSlots(redis, config, Leases(redis, config.api_host, "me", 15.0), 8)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def queue(redis: Redis, config: Config, *jobs: str) -> None:
    await redis.zadd(keys.queue(config.api_host), {job: 100.0 + place for place, job in enumerate(jobs)})


def take(slots: JobSlots, stack: ExitStack, job: str, score: float, waits: frozenset[str]) -> Hand:
    slots.leases._runs[job] = cast("Any", None)
    hand = stack.enter_context(slots.in_hand(job, score))
    hand.note(waits)
    return hand


async def test_the_last_ones_make_room_and_no_more_than_others_wait(
    slots: JobSlots, stack: ExitStack, redis: Redis, config: Config
) -> None:
    hands = [take(slots, stack, f"huge:{n}:0", 100.0 * n, A) for n in range(8)]
    await queue(redis, config, *(hand.job for hand in hands))
    await slots.look()
    assert not any(hand.leaves for hand in hands), "nobody else waits"
    await queue(redis, config, "small:0:0", "elsewhere:0:0")
    await redis.set(keys.lease("elsewhere:0"), "another worker")
    await slots.look()
    assert [hand.leaves for hand in hands] == [False] * 7 + [True]


async def test_who_is_next_for_each_limit_stays_and_so_does_who_works(
    slots: JobSlots, stack: ExitStack, redis: Redis, config: Config
) -> None:
    hands = [take(slots, stack, f"a:{n}:0", n, A) for n in range(5)]
    hands.append(take(slots, stack, "b:0:0", 9.0, B))
    hands += [take(slots, stack, f"c:{n}:0", 10.0, frozenset()) for n in range(2)]
    await queue(redis, config, *(f"other:{n}:0" for n in range(50)))
    await slots.look()
    assert {hand.job for hand in hands if hand.leaves} == {"a:2:0", "a:3:0", "a:4:0"}


async def test_one_that_made_room_comes_after_all_others_and_keeps_its_virtual_time(
    slots: JobSlots, redis: Redis, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue(redis, config, "a:0:0", "a:1:0", "b:0:0")
    slots.put_back("a:0:0")
    jobs = await redis.zrange(keys.queue(config.api_host), 0, -1)
    assert slots.pick(jobs) == [b"a:1:0", b"b:0:0", b"a:0:0"]
    assert await redis.zscore(keys.queue(config.api_host), "a:0:0") == 100.0
    assert await slots._unstarted(10) == 2, "it has been looked at"
    monkeypatch.setattr(job_slots, "AWAY", 0.0)
    slots.put_back("a:0:0")
    assert slots.pick(jobs) == jobs


async def test_of_a_batch_that_is_left_alone_one_shard_is_tried_now_and_then(
    slots: JobSlots,
) -> None:
    jobs = [b"a:0:0", b"a:1:0", b"b:0:0"]
    slots.leave_alone("a")
    assert slots.pick(jobs) == [b"b:0:0"]
    slots._alone["a"] = asyncio.get_running_loop().time()
    assert slots.pick(jobs) == [b"a:0:0", b"b:0:0"]
    assert slots.pick(jobs) == [b"b:0:0"]
    slots.take_up("a")
    assert slots.pick(jobs) == jobs


async def test_a_worker_that_can_do_nothing_says_so(slots: JobSlots, redis: Redis, config: Config) -> None:
    await queue(redis, config, "a:0:0", "b:0:0")
    assert await slots.why_stop(burst=True) is None
    slots.leave_alone("a")
    assert await slots.why_stop(burst=True) is None, "there is b"
    assert await slots.why_stop(burst=True, only="a")
    slots.leave_alone("b")
    error = await slots.why_stop(burst=True)
    assert error
    assert "(a, b)" in str(error)
    assert error.exit_code == 2
    assert await slots.why_stop(burst=False) is None, "other batches may come"
    config.output_dir.rmdir()
    assert await slots.why_stop(burst=False)
