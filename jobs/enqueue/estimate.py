"""What prompts would come to by the prices in the settings, and which of them have no price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import model_of, read_rows
from jobs.budget import Budget
from jobs.errors import InputError, Problem
from jobs.prices.money import dollars
from jobs.prices.setting import Prices

SHOWN = 20
"""Models that are named; the rest are counted."""

CURE = "Add what is missing to BATCH_PRICES: owner/name=0.003, or owner/video=0.0014/s max 0.50 when paid by the second"


@dataclass(slots=True)
class Estimate:
    """Counts prompts one by one, by their models."""

    prices: Prices
    _models: dict[str, list[int]] = field(default_factory=dict)
    """Its first line and the number of its prompts, for each."""

    @property
    def prompts(self) -> int:
        """How many were counted."""
        return sum(count for _, count in self._models.values())

    def add(self, model: str, line: int) -> None:
        """Count a prompt at a line of its file."""
        if counted := self._models.get(model):
            counted[1] += 1
        else:
            self._models[model] = [line, 1]

    def range(self, attempts: int) -> tuple[float, float] | None:
        """Dollars if each prompt succeeds at once, and if each needs all attempts; None unless all have a price."""
        least = most = 0
        for model, (_, count) in self._models.items():
            if not (price := self.prices.of(model)):
                return None
            least, most = least + price.per_prediction * count, most + price.reserved * count
        return (dollars(least), dollars(most * attempts)) if self._models else None

    @property
    def cheapest(self) -> int:
        """The least that one of the predictions reserves, in micro-dollars."""
        found = (self.prices.of(model) for model in self._models)
        return min((price.reserved for price in found if price), default=0)

    def unpriced(self) -> list[str]:
        """A sentence for each model without a price, with its first line."""
        sentences = []
        for model, (line, count) in self._models.items():
            if self.prices.of(model):
                continue
            others = f", and {count - 1} more prompt{'s' if count > 2 else ''}" if count > 1 else ""
            sentences.append(f"{Problem(line, model)} has no price{others}")
        return sentences

    def demand_prices(self, budget: Budget, source: str) -> None:
        """InputError when a budget in dollars could not be kept."""
        if budget.max_cost is None or not (unpriced := self.unpriced()):
            return
        shown = [f"  {sentence}" for sentence in unpriced[:SHOWN]]
        shown += [f"  … and {len(unpriced) - SHOWN} more models"] if len(unpriced) > SHOWN else []
        first = f"{source}: --max-cost needs the price of every model; nothing was enqueued"
        raise InputError("\n".join([first, *shown, CURE]))


def estimate(folder: Folder, prices: Prices, wanted: Callable[[int], bool] = lambda _: True) -> Estimate:
    """What the batch's prompts at the wanted indexes would come to; StorageError."""
    found = Estimate(prices)
    for row in read_rows(folder):
        if wanted(row.index):
            found.add(model_of(row.text), row.index + 1)
    return found
