"""Asking at the terminal before more may be spent than a person allowed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from jobs.errors import PriceError
from jobs.operations.report import cost_words
from jobs.prices.money import MICRO, dollars, money
from jobs.text import as_typed

if TYPE_CHECKING:
    from jobs.enqueue.estimate import Confirm, Costs


def confirm_costs(above: int | None, what: str) -> Confirm | None:
    """What asks when `what` may cost more micro-dollars than that, or when it is not known; None: never ask."""
    if above is None:
        return None

    def confirm(costs: Costs) -> None:
        if costs.most is not None and round(costs.most * MICRO) <= above:
            return
        words = "costs an amount that is not known" if costs.least is None else cost_words(*costs)
        if sys.stdin is None or not sys.stdin.isatty():
            raise PriceError(
                f"{what} {words}: that needs a yes because of --confirm-above {money(dollars(above))}, and there is no "
                "terminal to ask at. Give a higher --confirm-above or none; nothing was enqueued"
            )
        if not typer.confirm(as_typed(f"{what} {words}. Go on?"), err=True):
            raise PriceError("nothing was enqueued")

    return confirm
