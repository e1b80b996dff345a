"""What a batch may spend in total, in micro-dollars, and have in flight at once; `state/ledger.lua` enforces it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.errors import InputError
from jobs.prices.money import MOST_COST, dollars_text

MOST_PREDICTIONS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a batch; None is no limit, or in an order: unchanged."""

    max_predictions: int | None = None
    max_cost: int | None = None
    max_in_flight: int | None = None

    def check(self) -> None:
        """InputError when a number cannot be a limit."""
        if self.max_predictions is not None and not 1 <= self.max_predictions <= MOST_PREDICTIONS:
            raise InputError(f"--max-predictions must be between 1 and {MOST_PREDICTIONS}")
        if self.max_in_flight is not None and not 1 <= self.max_in_flight <= MOST_PREDICTIONS:
            raise InputError(f"--max-in-flight must be between 1 and {MOST_PREDICTIONS}")
        if self.max_cost is not None and not 1 <= self.max_cost <= MOST_COST:
            raise InputError(f"--max-cost must be above 0 and at most {dollars_text(MOST_COST)} dollars")

    def over(self, known: Budget) -> Budget:
        """These limits, and the known ones where these are unchanged."""
        return Budget(
            known.max_predictions if self.max_predictions is None else self.max_predictions,
            known.max_cost if self.max_cost is None else self.max_cost,
            known.max_in_flight if self.max_in_flight is None else self.max_in_flight,
        )


UNCHANGED = Budget()
