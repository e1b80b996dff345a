"""The counts of a batch's results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.prices.money import MICRO, dollars
from jobs.wire import Result


@dataclass(slots=True)
class Totals:
    """The counts of a batch; `missing` prompts have no record yet, `bytes` is the size of all `files`.

    `unsaved` files stayed at their URLs, `empty` prompts succeeded with no output.

    `micro_dollars` is what the prompts with a known price have cost, None when there is none; `unpriced` have none.
    """

    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    missing: int = 0
    files: int = 0
    bytes: int = 0
    unsaved: int = 0
    empty: int = 0
    micro_dollars: int | None = None
    unpriced: int = 0

    def count(self, result: Result | None) -> None:
        """Add one prompt's result, None when it has no record."""
        outcome = result.status if result else "missing"
        setattr(self, outcome, getattr(self, outcome) + 1)
        if result:
            self.files += len(result.files)
            self.bytes += sum(file.bytes for file in result.files)
            self.unsaved += len(result.unsaved)
            self.empty += result.empty
            self.unpriced += result.is_unpriced
        if result and result.cost is not None:
            self.micro_dollars = (self.micro_dollars or 0) + round(result.cost * MICRO)

    @property
    def values(self) -> tuple[int | None, ...]:
        """The counts in their order, for `add`."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def add(self, totals: Iterable[Sequence[int | None]]) -> None:
        """Add the values of other totals."""
        for name, column in zip(self.__slots__, zip(*totals, strict=True), strict=False):
            if known := [count for count in column if count is not None]:
                setattr(self, name, (getattr(self, name) or 0) + sum(known))

    @property
    def cost(self) -> float | None:
        """Dollars of all results, without what earlier tries of retried prompts took; None when no price is known."""
        return None if self.micro_dollars is None else dollars(self.micro_dollars)

    @property
    def cost_is_partial(self) -> bool:
        """Whether the cost of some results is not known."""
        return self.micro_dollars is not None and self.unpriced > 0

    @property
    def prompts(self) -> int:
        """How many prompts the batch has."""
        return self.succeeded + self.failed + self.canceled + self.missing
