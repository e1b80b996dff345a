from __future__ import annotations

import asyncio
import json

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.claims import CLAIM_TTL, Claims
from jobs.state.ledger import Claimed, Entry, Ledger, Overtaken, Served
from jobs.wire import Batch


@pytest.fixture
async def ledger(redis: Redis) -> Ledger:
    await Batches(redis).open(Batch("cats", "b1", "api", 1.0, 10, 0, 1.0))
    return Ledger(redis, "api", "cats", "b1", 3)


def other(ledger: Ledger, index: int) -> Ledger:
    return Ledger(ledger.redis, ledger.api_host, ledger.batch, ledger.batch_id, index)


async def test_an_untouched_prompt_has_an_empty_entry(ledger: Ledger) -> None:
    entry = await ledger.read()
    assert entry == Entry()
    assert not entry.ambiguous


async def test_an_intent_counts_an_attempt_and_is_ambiguous_until_recorded(ledger: Ledger) -> None:
    intent = await ledger.intend(Entry())
    assert (intent.attempt, intent.prediction_id, intent.ambiguous) == (1, None, True)
    assert 0 <= await ledger.age(intent) < 60
    recorded = await ledger.record(intent, "p1")
    assert (recorded.prediction_id, recorded.prediction_ids, recorded.ambiguous) == ("p1", ("p1",), False)
    assert await ledger.read() == recorded


async def test_recording_claims_the_prediction_for_two_hours(ledger: Ledger) -> None:
    await ledger.record(await ledger.intend(Entry()), "p1")
    claim = keys.claim("api", "p1")
    assert await ledger.redis.get(claim) == b"cats:3"
    assert CLAIM_TTL - 60 < await ledger.redis.ttl(claim) <= CLAIM_TTL


async def test_two_workers_cannot_intend_the_same_attempt(ledger: Ledger) -> None:
    both = await asyncio.gather(*(ledger.intend(Entry()) for _ in range(2)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in both) == ["Entry", "Overtaken"]
    assert (await ledger.read()).attempt == 1


async def test_an_intent_is_not_overwritten_by_who_saw_an_older_one(ledger: Ledger) -> None:
    first = await ledger.intend(Entry())
    replaced = await ledger.intend(first, replace=True)
    with pytest.raises(Overtaken, match="conflict"):
        await ledger.intend(first, replace=True)
    with pytest.raises(Overtaken, match="conflict"):
        await ledger.record(first, "late")
    assert await ledger.read() == replaced
    assert await ledger.redis.exists(keys.claim("api", "late")) == 0


async def test_a_replacement_uses_no_attempt_and_is_counted(ledger: Ledger) -> None:
    intent = await ledger.intend(Entry())
    replaced = await ledger.intend(intent, replace=True)
    assert (replaced.attempt, replaced.unknown_creates) == (1, 1)
    assert replaced.nonce != intent.nonce
    assert (await Batches(ledger.redis).get("cats")).unknown_creates == 1


async def test_withdrawing_the_first_intent_leaves_nothing_behind(ledger: Ledger) -> None:
    assert await ledger.withdraw(await ledger.intend(Entry())) == Entry()
    assert await ledger.redis.hlen(keys.ledger("cats")) == 0


async def test_withdrawing_a_replacement_keeps_what_is_known(ledger: Ledger) -> None:
    replaced = await ledger.intend(await ledger.intend(Entry()), replace=True)
    entry = await ledger.withdraw(replaced)
    assert (entry.nonce, entry.unknown_creates) == ("", 1)
    again = await ledger.intend(entry)
    assert (again.attempt, again.unknown_creates) == (1, 1)


async def test_closing_ends_an_attempt_and_the_next_one_counts(ledger: Ledger) -> None:
    first = await ledger.record(await ledger.intend(Entry()), "p1")
    closed = await ledger.close(first)
    assert (closed.nonce, closed.prediction_id, closed.prediction_ids) == ("", None, ("p1",))
    second = await ledger.record(await ledger.intend(closed), "p2")
    assert (second.attempt, second.prediction_ids) == (2, ("p1", "p2"))


@pytest.mark.parametrize("change", ["withdraw", "close"])
async def test_only_the_open_attempt_can_be_ended(ledger: Ledger, change: str) -> None:
    intent = await ledger.intend(Entry())
    await ledger.intend(intent, replace=True)
    with pytest.raises(Overtaken):
        await getattr(ledger, change)(intent)


async def test_a_prediction_serves_one_prompt(ledger: Ledger) -> None:
    twin = other(ledger, 4)
    mine, theirs = await ledger.intend(Entry()), await twin.intend(Entry())
    await twin.record(theirs, "p1")
    with pytest.raises(Claimed, match="p1"):
        await ledger.record(mine, "p1")
    assert (await ledger.read()).ambiguous


async def test_a_call_whose_answer_was_lost_may_be_made_again(ledger: Ledger) -> None:
    intent = await ledger.intend(Entry())
    once, again = await ledger.record(intent, "p1"), await ledger.record(intent, "p1")
    assert once == again
    assert again.prediction_ids == ("p1",)


@pytest.mark.parametrize("change", ["withdraw", "close"])
async def test_an_end_whose_answer_was_lost_may_be_repeated(ledger: Ledger, change: str) -> None:
    replaced = await ledger.intend(await ledger.intend(Entry()), replace=True)
    ended = await getattr(ledger, change)(replaced)
    assert await getattr(ledger, change)(replaced) == ended
    first = await other(ledger, 5).intend(Entry())
    for _ in range(2):
        assert await other(ledger, 5).withdraw(first) == Entry()


async def test_an_old_end_does_not_touch_a_newer_intent(ledger: Ledger) -> None:
    first = await ledger.record(await ledger.intend(Entry()), "p1")
    newer = await ledger.intend(await ledger.close(first))
    with pytest.raises(Overtaken):
        await ledger.close(first)
    assert await ledger.read() == newer


async def test_who_was_overtaken_is_told_before_it_makes_a_result(ledger: Ledger) -> None:
    entry = await ledger.record(await ledger.intend(Entry()), "p1")
    await ledger.confirm(entry)
    closed = await ledger.close(entry)
    with pytest.raises(Overtaken):
        await ledger.confirm(entry)
    await ledger.confirm(closed)
    await ledger.redis.delete(keys.ledger("cats"))  # it was settled, and is tried again
    with pytest.raises(Overtaken):
        await ledger.confirm(closed)


async def test_the_ledger_of_a_namesake_is_not_touched(ledger: Ledger) -> None:
    namesake = Ledger(ledger.redis, "api", "cats", "older", 3)
    with pytest.raises(Overtaken, match="gone"):
        await namesake.intend(Entry())


async def test_unclaimed_and_disowned_predictions(ledger: Ledger) -> None:
    claims = Claims(ledger.redis, "api")
    await ledger.record(await ledger.intend(Entry()), "p1")
    assert await claims.unclaimed([]) == []
    assert await claims.unclaimed(["p0", "p1", "p2"]) == ["p0", "p2"]
    assert await claims.disown("p2")
    assert await claims.disown("p2"), "the answer to the first call may be lost"
    assert not await claims.disown("p1")
    assert await claims.unclaimed(["p0", "p1", "p2"]) == ["p0"]


async def test_a_prediction_is_either_adopted_or_disowned(ledger: Ledger) -> None:
    claims = Claims(ledger.redis, "api")
    for number in range(100):
        prompt = other(ledger, 100 + number)
        intent = await prompt.intend(Entry())
        disowned, adopted = await asyncio.gather(
            claims.disown(f"p{number}"), prompt.record(intent, f"p{number}"), return_exceptions=True
        )
        assert disowned is isinstance(adopted, Claimed)


async def test_a_settled_prompt_is_never_touched_again(ledger: Ledger) -> None:
    intent = await ledger.intend(Entry())
    await Batches(ledger.redis).settle("cats", 3, "succeeded")
    with pytest.raises(Overtaken, match="settled"):
        await ledger.record(intent, "p1")
    with pytest.raises(Overtaken, match="settled"):
        await ledger.intend(Entry())
    assert await ledger.redis.hlen(keys.ledger("cats")) == 0


async def test_a_deleted_batch_is_gone(ledger: Ledger) -> None:
    await Batches(ledger.redis).delete("cats")
    with pytest.raises(Overtaken, match="gone"):
        await ledger.intend(Entry())


async def test_the_claim_outlives_settling(ledger: Ledger) -> None:
    await ledger.record(await ledger.intend(Entry()), "p1")
    await Batches(ledger.redis).settle("cats", 3, "succeeded")
    assert await Claims(ledger.redis, "api").unclaimed(["p1"]) == []


async def test_the_entry_is_readable_json(ledger: Ledger) -> None:
    await ledger.record(await ledger.intend(Entry()), "p1")
    text = await ledger.redis.hget(keys.ledger("cats"), "3")
    assert json.loads(text)["prediction_id"] == "p1"


async def test_what_a_search_has_found_is_not_taken_back(ledger: Ledger) -> None:
    intent = await ledger.intend(Entry())
    adopted = await ledger.record(intent, "p1")
    with pytest.raises(Overtaken, match="conflict"):
        await ledger.withdraw(intent)
    with pytest.raises(Overtaken, match="conflict"):
        await ledger.close(intent, how="refused")
    with pytest.raises(Overtaken, match="conflict"):
        await ledger.intend(intent, replace=True)
    assert await ledger.read() == adopted


async def test_a_prompt_that_a_search_has_served_takes_no_second_prediction(ledger: Ledger) -> None:
    intent = await ledger.intend(Entry())
    adopted = await ledger.record(intent, "p1")
    with pytest.raises(Served):
        await ledger.record(intent, "p2")
    assert await ledger.read() == adopted
    assert await Claims(ledger.redis, "api").unclaimed(["p2"]) == ["p2"]
