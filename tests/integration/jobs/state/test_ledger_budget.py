"""What a batch spends: reserved before a create, settled after, never exceeded, known again after a loss."""

from __future__ import annotations

import asyncio

import pytest

from jobs.errors import OverBudget
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Spent
from jobs.state.ledger import Entry, Ledger, Overtaken
from jobs.wire import Batch

PRICE = 3_000
NEW = Entry()


@pytest.fixture
async def batches(redis: Redis) -> Batches:
    batches = Batches(redis)
    await batches.open(Batch("cats", "b1", "api", 1.0, 100, 0, 1.0))
    return batches


@pytest.fixture
def ledgers(redis: Redis, batches: Batches) -> list[Ledger]:  # noqa: ARG001 - the batch has to be there
    return [Ledger(redis, "api", "cats", "b1", index) for index in range(100)]


async def spent(batches: Batches) -> tuple[int, int]:
    batch = await batches.get("cats")
    return batch.predictions, batch.cost


async def verdict(ledger: Ledger, entry: Entry = NEW, price: int | None = PRICE) -> str:
    with pytest.raises(OverBudget) as refused:
        await ledger.intend(entry, price, replace=entry.ambiguous)
    assert await ledger.read() == entry
    return refused.value.verdict


async def test_an_intent_reserves_its_price_and_its_end_settles_it(batches: Batches, ledgers: list[Ledger]) -> None:
    intent = await ledgers[0].intend(Entry(), PRICE)
    assert (intent.reserved, await spent(batches)) == (PRICE, (1, PRICE))
    closed = await ledgers[0].close(await ledgers[0].record(intent, "p1"), cost=1_000)
    assert (closed.reserved, closed.cost, await spent(batches)) == (0, 1_000, (1, 1_000))
    await ledgers[0].record(await ledgers[0].intend(closed, PRICE), "p2")
    await batches.settle("cats", 0, "succeeded", spent=Spent(2, 2_500, last="p2"))
    assert await spent(batches) == (2, 2_500)


async def test_a_late_result_frees_nothing_of_what_came_after_it(batches: Batches, ledgers: list[Ledger]) -> None:
    """Another worker held its output for lost, and has begun to pay for the next."""
    recorded = await ledgers[0].record(await ledgers[0].intend(Entry(), PRICE), "p1")
    intent = await ledgers[0].intend(await ledgers[0].close(recorded, PRICE, "output_lost"), PRICE)
    await batches.settle("cats", 0, "succeeded", spent=Spent(1, PRICE, last="p1"))
    assert await spent(batches) == (2, 2 * PRICE)
    with pytest.raises(Overtaken, match="settled"):
        await ledgers[0].record(intent, "p2")


async def test_a_result_of_before_a_retry_frees_nothing_of_what_came_after_it(
    redis: Redis, batches: Batches, ledgers: list[Ledger]
) -> None:
    """Its worker stalled before the rename, while another settled the prompt, and its user retried it."""
    first = Spent(1, 100, last="p1")
    await ledgers[0].record(await ledgers[0].intend(Entry(), PRICE), "p1")
    await batches.settle("cats", 0, "failed", spent=first)
    async with redis.pipeline() as pipe:
        await batches.unsettle("cats", 0, "failed", pipe)
        await pipe.execute()
    await ledgers[0].record(await ledgers[0].intend(Entry(), PRICE), "p2")
    await batches.settle("cats", 0, "succeeded", spent=first)
    assert await spent(batches) == (2, 100 + PRICE)


async def test_a_result_made_before_a_loss_counts_what_the_ledger_has_forgotten(
    batches: Batches, ledgers: list[Ledger]
) -> None:
    recorded = await ledgers[0].record(await ledgers[0].intend(Entry(), PRICE), "p1")
    await ledgers[0].close(recorded, 1_000)
    await batches.settle("cats", 0, "succeeded", spent=Spent(2, 2_500, last="p2"))
    assert await spent(batches) == (2, 2_500)


async def test_what_surely_had_no_effect_costs_nothing(batches: Batches, ledgers: list[Ledger]) -> None:
    await ledgers[0].withdraw(await ledgers[0].intend(Entry(), PRICE))
    refused = await ledgers[1].close(await ledgers[1].intend(Entry(), PRICE), how="refused")
    assert (refused.attempt, await spent(batches)) == (1, (0, 0))


async def test_a_create_that_nobody_can_find_may_have_been_paid(batches: Batches, ledgers: list[Ledger]) -> None:
    replaced = await ledgers[0].intend(await ledgers[0].intend(Entry(), PRICE), PRICE, replace=True)
    assert (replaced.cost, replaced.reserved, await spent(batches)) == (PRICE, PRICE, (2, 2 * PRICE))


async def test_an_aborted_attempt_is_free_and_counted(batches: Batches, ledgers: list[Ledger]) -> None:
    intent = await ledgers[0].record(await ledgers[0].intend(Entry(), PRICE), "p1")
    closed = await ledgers[0].close(intent, how="aborted", model="owner/name")
    assert (closed.attempt, closed.aborted, await spent(batches)) == (0, 1, (1, 0))
    batch = await batches.get("cats")
    assert (batch.aborted, batch.aborted_model) == (1, "owner/name")
    assert (await ledgers[0].intend(closed, PRICE)).attempt == 1


async def test_lost_outputs_are_counted_of_attempts_and_of_results(batches: Batches, ledgers: list[Ledger]) -> None:
    await ledgers[0].close(await ledgers[0].intend(Entry()), how="output_lost")
    await batches.settle("cats", 1, "failed", spent=Spent(kind="output_lost"))
    await batches.settle("cats", 1, "failed", spent=Spent(kind="output_lost"))
    assert (await batches.get("cats")).outputs_lost == 2


async def test_closing_twice_counts_once(batches: Batches, ledgers: list[Ledger]) -> None:
    intent = await ledgers[0].intend(Entry(), PRICE)
    assert await ledgers[0].close(intent, 7) == await ledgers[0].close(intent, 7)
    assert await spent(batches) == (1, 7)


async def test_no_more_predictions_than_allowed_however_many_workers(batches: Batches, ledgers: list[Ledger]) -> None:
    await batches.set_budget("cats", 10, None)
    made = await asyncio.gather(*(ledger.intend(Entry()) for ledger in ledgers), return_exceptions=True)
    assert sum(isinstance(one, Entry) for one in made) == 10
    assert await spent(batches) == (10, 0)


async def test_no_more_money_than_allowed_however_many_workers(batches: Batches, ledgers: list[Ledger]) -> None:
    await batches.set_budget("cats", None, 10 * PRICE + 1)
    made = await asyncio.gather(*(ledger.intend(Entry(), PRICE) for ledger in ledgers), return_exceptions=True)
    assert sum(isinstance(one, Entry) for one in made) == 10
    assert await spent(batches) == (10, 10 * PRICE)


async def test_a_budget_is_short_while_attempts_are_open_and_spent_after(
    batches: Batches, ledgers: list[Ledger]
) -> None:
    await batches.set_budget("cats", 1, None)
    intent = await ledgers[0].intend(Entry(), PRICE)
    assert await verdict(ledgers[1]) == "short"
    await batches.settle("cats", 0, "succeeded", spent=Spent(1, PRICE))
    assert await verdict(ledgers[1]) == "spent"
    with pytest.raises(OverBudget):
        await ledgers[1].afford(PRICE)
    await batches.set_budget("cats", 2, None)
    await ledgers[1].afford(PRICE)
    assert intent.reserved == (await ledgers[1].intend(Entry(), PRICE)).reserved


async def test_an_open_attempt_of_its_own_frees_nothing(batches: Batches, ledgers: list[Ledger]) -> None:
    await batches.set_budget("cats", 1, None)
    intent = await ledgers[0].intend(Entry(), PRICE)
    assert await verdict(ledgers[0], intent) == "spent"
    with pytest.raises(OverBudget, match="spent"):
        await ledgers[0].afford(PRICE)


async def test_a_model_without_a_price_waits_if_the_cost_is_limited(batches: Batches, ledgers: list[Ledger]) -> None:
    await ledgers[0].intend(Entry(), None)
    await batches.set_budget("cats", None, 1)
    assert await verdict(ledgers[1], price=None) == "unpriced"


async def test_results_found_on_disk_after_a_loss_count_whole(batches: Batches) -> None:
    await batches.settle("cats", 0, "succeeded", spent=Spent(3, 500))
    await batches.settle("cats", 0, "succeeded", spent=Spent(3, 500))
    await batches.settle("cats", 1, "failed")
    assert await spent(batches) == (3, 500)


async def test_a_budget_that_is_not_named_stays(batches: Batches) -> None:
    await batches.set_budget("cats", 5, None)
    await batches.set_budget("cats", None, 7)
    await batches.set_budget("cats", None, None)
    batch = await batches.get("cats")
    assert (batch.max_predictions, batch.max_cost) == (5, 7)
