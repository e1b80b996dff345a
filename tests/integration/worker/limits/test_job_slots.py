"""Which shards make room for others, which are deferred, and which are skipped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from jobs.config import Config
from jobs.errors import UnfitRedis
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.ledger import Entry, Ledger
from jobs.wire import Batch
from worker.leases import Leases
from worker.limits.job_slots import JobSlot, JobSlots, RunningJobs, Timing

Take = Callable[[str, float, frozenset[str]], Awaitable[JobSlot]]
A, B = frozenset({"model limit a"}), frozenset({"model limit b"})


@pytest.fixture
def config(redis_url: str, tmp_path: Path) -> Config:
    (tmp_path / "outputs").mkdir()
    return Config.load(redis_url=redis_url, output_dir=tmp_path / "outputs")


@pytest.fixture
def slots(redis: Redis, config: Config) -> JobSlots:
    leases = Leases(redis, config.api_host, "me", 15.0)
    return JobSlots(redis, config, leases, RunningJobs(leases), 8, Timing(yield_after=0.0))


@pytest.fixture
async def take(slots: JobSlots) -> AsyncIterator[Take]:
    """`await take("a:0:0", 1.0, A)`: a shard that runs, and what its prompts wait for."""

    async def run(job: str) -> None:
        await slots.running.single_flight(job)
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:

        async def start(job: str, score: float, waits: frozenset[str]) -> JobSlot:
            stack.callback(asyncio.create_task(run(job)).cancel)
            await asyncio.sleep(0)
            slot = stack.enter_context(slots.hold(job, score))
            slot.note(waits)
            return slot

        yield start


async def queue(redis: Redis, config: Config, *jobs: str) -> None:
    await redis.zadd(keys.queue(config.api_host), {job: 100.0 + place for place, job in enumerate(jobs)})


async def test_the_last_ones_make_room_and_no_more_than_others_wait(
    slots: JobSlots, take: Take, redis: Redis, config: Config
) -> None:
    held = [await take(f"huge:{n}:0", 100.0 * n, A) for n in range(8)]
    await queue(redis, config, *(slot.job for slot in held))
    await slots.make_room()
    assert not any(slot.must_yield for slot in held), "nobody else waits"
    await queue(redis, config, "small:0:0", "elsewhere:0:0")
    await redis.set(keys.lease("elsewhere:0"), "another worker")
    await slots.make_room()
    assert [slot.must_yield for slot in held] == [False] * 7 + [True]


async def test_who_is_next_for_each_limit_stays_and_so_does_who_works(
    slots: JobSlots, take: Take, redis: Redis, config: Config
) -> None:
    held = [await take(f"a:{n}:0", n, A) for n in range(5)]
    held.append(await take("b:0:0", 9.0, B))
    held += [await take(f"c:{n}:0", 10.0, frozenset()) for n in range(2)]
    await queue(redis, config, *(f"other:{n}:0" for n in range(50)))
    await slots.make_room()
    assert {slot.job for slot in held if slot.must_yield} == {"a:2:0", "a:3:0", "a:4:0"}


async def test_one_that_made_room_comes_after_all_others_and_keeps_its_virtual_time(
    slots: JobSlots, take: Take, redis: Redis, config: Config
) -> None:
    await queue(redis, config, "a:0:0", "a:1:0", "b:0:0")
    slots.defer("a:0:0")
    jobs = await redis.zrange(keys.queue(config.api_host), 0, -1)
    assert slots.pick_jobs(jobs) == [b"a:1:0", b"b:0:0", b"a:0:0"]
    assert await redis.zscore(keys.queue(config.api_host), "a:0:0") == 100.0
    held = [await take(f"huge:{n}:0", n, A) for n in range(8)]
    await slots.make_room()
    assert sum(slot.must_yield for slot in held) == 2, "nobody makes room for what has just made room"
    slots.timing = Timing(deferred=0.0)
    slots.defer("a:0:0")
    assert slots.pick_jobs(jobs) == jobs


async def test_of_a_batch_that_is_skipped_one_shard_is_tried_now_and_then(slots: JobSlots) -> None:
    slots.timing = Timing(deferred=0.3)
    jobs = [b"a:0:0", b"a:1:0", b"b:0:0"]
    slots.skip_batch("a")
    assert slots.pick_jobs(jobs) == [b"b:0:0"]
    await asyncio.sleep(slots.timing.deferred)
    assert slots.pick_jobs(jobs) == [b"a:0:0", b"b:0:0"]
    assert slots.pick_jobs(jobs) == [b"b:0:0"]
    slots.resume_batch("a")
    assert slots.pick_jobs(jobs) == jobs


async def test_a_worker_that_can_do_nothing_says_so(slots: JobSlots, redis: Redis, config: Config) -> None:
    await queue(redis, config, "a:0:0", "b:0:0")
    assert await slots.stop_reason(is_idle=True, burst=True) is None
    slots.skip_batch("a")
    assert await slots.stop_reason(is_idle=True, burst=True) is None, "there is b"
    assert await slots.stop_reason(is_idle=True, burst=True, only="a")
    slots.skip_batch("b")
    error = await slots.stop_reason(is_idle=True, burst=True)
    assert error
    assert "(a, b)" in str(error)
    assert error.exit_code == 2
    assert await slots.stop_reason(is_idle=True, burst=False) is None, "other batches may come"
    config.output_dir.rmdir()
    assert await slots.stop_reason(is_idle=True, burst=False)
    assert await slots.stop_reason(is_idle=False, burst=True) is None, "a shard runs that was started before"


async def test_a_worker_stops_for_the_first_reason_that_it_is_given(slots: JobSlots) -> None:
    first, second = UnfitRedis("first"), UnfitRedis("second")
    slots.request_stop(first)
    slots.request_stop(second)
    assert await slots.stop_reason(is_idle=False, burst=False) is first


async def test_shards_of_a_paused_batch_are_skipped_unless_something_of_them_is_open(
    slots: JobSlots, redis: Redis, config: Config
) -> None:
    batches = Batches(redis)
    await batches.open(Batch("night", "b1", config.api_host, 1.0, 300, 0, 1.0))
    await Ledger(redis, config.api_host, "night", "b1", 150).intend(Entry())
    await batches.cancel_prompts("night", "b1", [299])
    await batches.pause("night", "b1", "lunch")
    jobs = [b"night:0:0", b"night:1:0", b"night:2:0", b"noon:0:0"]
    assert slots.pick_jobs(jobs) == jobs, "no shard of it has run here yet"
    slots.skip_paused("night", "b1")
    assert slots.pick_jobs(jobs) == [b"noon:0:0"]
    await slots.make_room()
    assert slots.pick_jobs(jobs) == jobs[1:]
    await batches.pause("night", "b1", None)
    await slots.make_room()
    assert slots.pick_jobs(jobs) == jobs
