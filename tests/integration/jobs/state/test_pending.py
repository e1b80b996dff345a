from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.ledger import Entry, Ledger
from jobs.state.pending import PendingPrompt, read_pending
from jobs.wire import Batch

BATCH = Batch("cats", "id-1", "api", 1000.0, 5000, 0, 1.0)
FRESH = PendingPrompt(0, Entry())


@given(
    settled=st.sets(st.integers(0, 4999), max_size=20), asked=st.lists(st.integers(0, 4999), max_size=20, unique=True)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
async def test_what_has_no_result_is_found_wherever_it_lies(redis: Redis, settled: set[int], asked: list[int]) -> None:
    await redis.delete(keys.settled("cats"))
    for index in settled:
        await redis.setbit(keys.settled("cats"), index, 1)
    asked += list(settled)[:5]
    assert await read_pending(redis, "cats", asked) == {index: FRESH for index in asked if index not in settled}


async def test_each_comes_with_its_entry_and_its_term(redis: Redis) -> None:
    batches = Batches(redis)
    await batches.open(BATCH)
    entry = await Ledger(redis, "api", "cats", "id-1", 4321).intend(Entry())
    await batches.settle("cats", 4000, "failed")
    async with redis.pipeline(transaction=True) as pipe:
        await batches.unsettle("cats", 4000, "failed", pipe)
        await pipe.execute()
    found = await read_pending(redis, "cats", [4321, 4000, 17])
    assert found == {4321: PendingPrompt(0, entry), 4000: PendingPrompt(1, Entry()), 17: FRESH}
