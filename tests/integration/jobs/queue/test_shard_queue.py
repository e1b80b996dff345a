from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from arq.worker import Worker, func

from jobs.errors import BatchNotFound
from jobs.queue.payload import FUNCTION, Parcel, unpack
from jobs.queue.shard_queue import Queue, deserialize, serialize
from jobs.redis_client import keys
from jobs.redis_client.client import arq_redis
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Prompt, Shard
from tests.integration.redis_stats import script_calls

API_HOST = "api.example"
QUEUE = keys.queue(API_HOST)


def shard(batch: str, number: int, prompts: int = 100, generation: int = 0, text: str = "fox") -> Shard:
    indexes = range(100 * number, 100 * number + prompts)
    rows = tuple(Prompt(index, f"p{index}", "o/n", {"prompt": text}, generation) for index in indexes)
    return Shard(batch, f"id-{batch}", number, generation, rows)


def shards(batch: str, numbers: Iterable[int]) -> list[Shard]:
    return [shard(batch, number) for number in numbers]


async def opened(redis: Redis, name: str, total: int = 0, priority: float = 1.0) -> Batch:
    batch = await Batches(redis).open(Batch(name, f"id-{name}", API_HOST, 1.0, 0, 0, priority))
    return replace(batch, total=total)


async def order(redis: Redis) -> list[str]:
    return [job.decode() for job in await redis.zrange(QUEUE, 0, -1)]


async def scores(redis: Redis) -> dict[str, float]:
    return {job.decode(): score for job, score in await redis.zrange(QUEUE, 0, -1, withscores=True)}


async def test_shards_are_added_once_and_counted(redis: Redis) -> None:
    batch = await opened(redis, "a", 250)
    first = [shard("a", 0), shard("a", 1), shard("a", 2, prompts=50)]
    assert await Queue(redis, API_HOST).add(batch, first) == (3, 250)
    assert await Queue(redis, API_HOST).add(batch, first) == (0, 0)
    assert await Queue(redis, API_HOST).size() == 3
    assert (await Batches(redis).get("a")).total == 250


async def test_payloads_wait_for_30_days(redis: Redis) -> None:
    await Queue(redis, API_HOST).add(await opened(redis, "a", 100), [shard("a", 0)])
    left = await redis.pttl(keys.ARQ_JOB + "a:0:0")
    assert 29.9 * 86_400_000 < left <= 30 * 86_400_000
    assert unpack(await redis.get(keys.ARQ_JOB + "a:0:0"), "a:0:0") == shard("a", 0)


async def test_an_expired_payload_of_a_queued_shard_is_mended(redis: Redis) -> None:
    batch = await opened(redis, "a", 100)
    await Queue(redis, API_HOST).add(batch, [shard("a", 0)])
    await redis.delete(keys.ARQ_JOB + "a:0:0")
    assert await Queue(redis, API_HOST).add(batch, [shard("a", 0)]) == (0, 0)
    assert await redis.exists(keys.ARQ_JOB + "a:0:0")


async def test_a_queued_payload_is_not_replaced(redis: Redis) -> None:
    batch = await opened(redis, "a", 100)
    await Queue(redis, API_HOST).add(batch, [shard("a", 0)])
    await Queue(redis, API_HOST).add(batch, [shard("a", 0, prompts=3)])
    assert len(unpack(await redis.get(keys.ARQ_JOB + "a:0:0"), "a:0:0").prompts) == 100


async def test_a_small_batch_interleaves_with_a_huge_one_at_once(redis: Redis) -> None:
    tasks = Queue(redis, API_HOST)
    await tasks.add(await opened(redis, "huge", 300_000), shards("huge", range(3000)))
    for job in (await order(redis))[:1000]:  # the first third is done
        await redis.zrem(QUEUE, job)
    await tasks.add(await opened(redis, "small", 300), shards("small", range(3)))
    head = [job.partition(":")[0] for job in (await order(redis))[:7]]
    assert head == ["huge", "huge", "small", "huge", "small", "huge", "small"]


async def test_a_batch_that_comes_second_gets_its_share_by_priority(redis: Redis) -> None:
    tasks = Queue(redis, API_HOST)
    await tasks.add(await opened(redis, "a", 100_000), shards("a", range(1000)))
    await tasks.add(await opened(redis, "b", 30_000, priority=3), shards("b", range(300)))
    assert sum(job.startswith("b") for job in (await order(redis))[:400]) in (299, 300)


async def test_a_small_shard_weighs_less(redis: Redis) -> None:
    await Queue(redis, API_HOST).add(await opened(redis, "a", 250), [shard("a", 0), shard("a", 1, 50), shard("a", 2)])
    assert await scores(redis) == {"a:0:0": 100, "a:1:0": 150, "a:2:0": 250}


async def test_what_is_appended_comes_after_what_waits(redis: Redis) -> None:
    tasks = Queue(redis, API_HOST)
    batch = await opened(redis, "a", 1000)
    await tasks.add(batch, shards("a", range(5)))
    await tasks.add(batch, shards("a", range(10)))
    assert await order(redis) == [f"a:{number}:0" for number in range(10)]


async def test_a_batch_that_used_the_queue_up_is_not_punished_for_it(redis: Redis) -> None:
    tasks = Queue(redis, API_HOST)
    old = await opened(redis, "old", 100_000)
    await tasks.add(old, shards("old", range(1000)))
    await redis.delete(QUEUE)  # all done
    await tasks.add(await opened(redis, "new", 10_000), shards("new", range(100)))
    await tasks.add(old, [shard("old", 7, generation=1)])
    assert (await order(redis)).index("old:7:1") <= 2


async def test_scores_are_never_0_and_never_in_the_future(redis: Redis) -> None:
    tasks = Queue(redis, API_HOST)
    await tasks.add(await opened(redis, "a", 1, priority=1000), [shard("a", 0, prompts=1)])
    await tasks.add(await opened(redis, "b", 10_000, priority=0.001), shards("b", range(100)))
    assert all(0 < score < 1e9 for score in (await scores(redis)).values())


async def test_a_batch_that_gets_more_prompts_is_finished_no_more(redis: Redis) -> None:
    batches = Batches(redis)
    batch = await opened(redis, "a", 1)
    await Queue(redis, API_HOST).add(batch, [shard("a", 0, prompts=1)])
    await redis.hset(keys.retried("a"), "0", "1")
    await batches.settle("a", 0, "succeeded")
    await batches.finish("a")
    kept = [key for key in keys.kept_with_batch("a") if await redis.exists(key)]
    assert keys.retried("a") in kept
    assert all([await redis.ttl(key) > 0 for key in kept])
    await Queue(redis, API_HOST).add(replace(batch, total=3), [shard("a", 0, prompts=2, generation=1)])
    again = await batches.get("a")
    assert (again.total, again.finished_at) == (3, None)
    assert [await redis.ttl(key) for key in kept] == [-1] * len(kept)


async def test_the_total_never_shrinks(redis: Redis) -> None:
    batch = await opened(redis, "a", 200)
    await Queue(redis, API_HOST).add(batch, shards("a", range(2)))
    await Queue(redis, API_HOST).add(replace(batch, total=100), [shard("a", 0, generation=1)])
    assert (await Batches(redis).get("a")).total == 200


async def test_nothing_is_added_to_a_batch_that_was_deleted_or_made_anew(redis: Redis) -> None:
    batch = await opened(redis, "a", 100)
    with pytest.raises(BatchNotFound, match="deleted while"):
        await Queue(redis, API_HOST).add(replace(batch, id="other"), [shard("a", 0)])
    await Batches(redis).delete("a")
    with pytest.raises(BatchNotFound, match="deleted while"):
        await Queue(redis, API_HOST).add(batch, [shard("a", 0)])
    assert await redis.keys("*") == []


async def test_pipelines_are_bounded_by_number_and_by_bytes(redis: Redis) -> None:
    queue = in_chunks_of(10, redis)
    before = await script_calls(redis)
    await queue.add(await opened(redis, "a", 2500), shards("a", range(25)))
    assert await script_calls(redis) - before == 3
    queue.chunk_bytes = 1
    await queue.add(await opened(redis, "b", 500), shards("b", range(5)))
    assert await script_calls(redis) - before == 3 + 5


def in_chunks_of(shards: int, redis: Redis) -> Queue:
    queue = Queue(redis, API_HOST)
    queue.chunk_shards = shards
    return queue


async def test_shards_are_made_only_as_they_are_needed(redis: Redis) -> None:
    made: list[int] = []

    def some() -> Iterator[Shard]:
        for number in range(6):
            made.append(number)
            yield shard("a", number if number < 4 else 1 // 0)

    with pytest.raises(ZeroDivisionError):
        await in_chunks_of(2, redis).add(await opened(redis, "a", 600), some())
    assert made == [0, 1, 2, 3, 4]
    assert await order(redis) == [f"a:{number}:0" for number in range(4)]


async def test_what_comes_first_is_done_together_with_the_adding(redis: Redis) -> None:
    batches, batch = Batches(redis), await opened(redis, "a", 2)
    await Queue(redis, API_HOST).add(batch, [shard("a", 0, prompts=2)])
    await Queue(redis, API_HOST).remove("a")
    await batches.settle("a", 0, "succeeded")
    await batches.settle("a", 1, "failed")
    await batches.finish("a")
    await Queue(redis, API_HOST).add(
        batch, [shard("a", 0, prompts=2, generation=1)], lambda pipe: batches.unsettle("a", 1, "failed", pipe)
    )
    again = await batches.get("a")
    assert (again.succeeded, again.failed, again.finished_at) == (1, 0, None)
    assert await order(redis) == ["a:0:1"]


async def test_removing_a_batch_leaves_the_others(redis: Redis) -> None:
    tasks = in_chunks_of(10, redis)
    await tasks.add(await opened(redis, "a", 2500), shards("a", range(25)))
    await tasks.add(await opened(redis, "a.b", 100), [shard("a.b", 0)])
    await redis.set(keys.ARQ_RETRY + "a:0:0", 1)
    await tasks.remove("a")
    assert await order(redis) == ["a.b:0:0"]
    assert await redis.keys("arq:*") == [b"arq:job:a.b:0:0"]


async def test_queues_of_different_api_hosts_are_apart(redis: Redis) -> None:
    await Queue(redis, API_HOST).add(await opened(redis, "a", 100), [shard("a", 0)])
    assert await Queue(redis, "other.example").size() == 0


async def test_an_arq_worker_runs_what_was_added_in_order(redis: Redis, redis_url: str) -> None:
    ran: list[Shard] = []

    async def run(ctx: dict[str, str], given: Parcel) -> None:
        ran.append(unpack(given.payload, ctx["job_id"]))

    await Queue(redis, API_HOST).add(await opened(redis, "a", 300), shards("a", range(3)))
    pool = arq_redis(redis_url)
    worker = Worker(
        [func(run, name=FUNCTION)],
        queue_name=QUEUE,
        redis_pool=pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        burst=True,
        max_jobs=1,
        keep_result=0,
        poll_delay=0.01,
        handle_signals=False,
    )
    await worker.main()
    await pool.aclose(close_connection_pool=True)
    assert ran == shards("a", range(3))
    assert await Queue(redis, API_HOST).size() == 0
    assert await redis.keys("arq:job:*") == []
