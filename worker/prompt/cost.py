"""What a prompt's predictions cost, by the prices that are known; inside in micro-dollars, in results in dollars."""

from __future__ import annotations

from jobs.notify.conditions import budget_event
from jobs.prices.cost_range import Pricing
from jobs.prices.money import dollars
from jobs.replicate_api.predictions import Prediction
from jobs.state.ledger import Entry
from worker.context import Work


def price(work: Work) -> int | None:
    """What one prediction of the prompt reserves: the most that it may cost; None when that is not known."""
    pricing = _pricing(work)
    return pricing.cost_range(work.prompt.input).most if pricing else None


def cost(work: Work, entry: Entry, prediction: Prediction | None) -> int:
    """What the entry's open attempt came to: nothing if aborted, all that was reserved if its bill is not known."""
    bill = _bill(work, prediction)
    return entry.reserved if bill is None else bill


def total(work: Work, entry: Entry, prediction: Prediction | None) -> float | None:
    """Dollars of all predictions of the prompt up to this one; None when its model has no price, or no known bill."""
    if _pricing(work) is None:
        return None
    is_open = bool(entry.nonce)
    is_unsure = entry.unknown_creates or (is_open and _bill(work, prediction) is None)
    if is_unsure and price(work) is None:
        return None
    return dollars(entry.cost + (cost(work, entry, prediction) if is_open else 0))


async def announce_used_up(work: Work) -> None:
    """Announce, once a generation, that the batch's budget allows no more."""
    worker, shard = work.worker, work.shard
    key = (shard.batch_id, shard.generation)
    if key in worker.used_up or not worker.notifier.wants("budget"):
        return
    worker.used_up.add(key)
    if (batch := await worker.batches.find(shard.batch)) and batch.id == shard.batch_id:
        await worker.notifier.post(budget_event(batch, shard.generation))


def _bill(work: Work, prediction: Prediction | None) -> int | None:
    pricing = _pricing(work)
    if prediction is None or pricing is None:
        return None
    return pricing.bill(prediction.status, prediction.metrics, work.prompt.input)


def _pricing(work: Work) -> Pricing | None:
    return work.worker.prices.of(work.prompt.model, work.cards)
