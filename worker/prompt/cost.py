"""What a prompt's predictions cost, by the prices in the settings; inside in micro-dollars, in results in dollars."""

from __future__ import annotations

from jobs.prices.money import dollars
from jobs.replicate_api.predictions import Prediction
from jobs.state.ledger import Entry
from worker.context import Work


def price(work: Work) -> int | None:
    """What one prediction of the prompt reserves; None when its model has no price."""
    found = work.worker.config.prices.of(work.prompt.model)
    return found.reserved if found else None


def cost(work: Work, entry: Entry, prediction: Prediction | None) -> int:
    """What the entry's open attempt came to: nothing if aborted, all that was reserved if its end is not known."""
    found = work.worker.config.prices.of(work.prompt.model)
    if prediction is None or found is None:
        return entry.reserved
    if prediction.status == "aborted":
        return 0
    return found.actual(prediction.metrics.get("predict_time"))


def total(work: Work, entry: Entry, prediction: Prediction | None) -> float | None:
    """Dollars of all predictions of the prompt up to this one; None when its model has no price."""
    if price(work) is None:
        return None
    return dollars(entry.cost + (cost(work, entry, prediction) if entry.nonce else 0))
