"""What prompts would come to by the prices that are known, and which of them have none."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import orjson

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import model_of, read_rows
from jobs.budget import Budget
from jobs.catalog.catalog import Catalog
from jobs.config import Config
from jobs.errors import InputError, Problem
from jobs.prices.cost_range import CostRange, Pricing
from jobs.prices.money import dollars
from jobs.prices.price_list import PriceList

SHOWN = 20
"""Sentences that are shown; the rest are counted."""

CURE = (
    "Add what is missing to BATCH_PRICES: owner/name=0.003, or owner/video=0.0014/s max 0.50 when paid by the second; "
    "or to prices.toml, by `python -m jobs prices fetch owner/name` or by hand, where "
    "at_most = { image_output_count = 4 } bounds what no input tells"
)


class Costs(NamedTuple):
    """Dollars if each prompt succeeds at once, and if each needs all attempts; None: not known.

    They are without the prompts of `unpriced` models.
    """

    least: float | None = None
    most: float | None = None
    unpriced: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """The fields of a receipt."""
        return {
            "cost_at_least": self.least,
            "cost_at_most": self.most,
            "cost_is_partial": self.least is not None and bool(self.unpriced),
            "unpriced_models": list(self.unpriced),
        }


Confirm = Callable[[Costs], None]
"""Is given the costs before anything is enqueued, and raises a PriceError when they are not agreed to."""


@dataclass(slots=True)
class _ModelCosts:
    """The prompts of a model: the first one's line, how many, micro-dollars; lines and counts of what is not known."""

    line: int
    pricing: Pricing | None
    flat: CostRange | None
    count: int = 0
    least: int = 0
    most: int = 0
    unknown: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Estimate:
    """Counts prompts one by one, by their models. `cheapest` is the least that one of them reserves, micro-dollars."""

    prices: PriceList
    attempts: int = 1
    _cheapest: int | None = None
    _models: dict[str, _ModelCosts] = field(default_factory=dict)

    @property
    def prompts(self) -> int:
        """How many were counted."""
        return sum(costs.count for costs in self._models.values())

    def add(self, model: str, line: int, text: bytes) -> None:
        """Count a prompt at a line of its file; `text` is its row in the batch's own copy."""
        costs = self._models.get(model) or self._begin(model, line)
        costs.count += 1
        if costs.pricing is None:
            return
        found = costs.flat or costs.pricing.cost_range(_input_of(text))
        costs.least += found.least
        if found.most is not None:
            costs.most += found.most
            self._cheapest = found.most if self._cheapest is None else min(self._cheapest, found.most)
        for what in found.unknown:
            costs.unknown.setdefault(what, [line, 0])[1] += 1

    def _begin(self, model: str, line: int) -> _ModelCosts:
        pricing = self.prices.of(model)
        flat = pricing.cost_range({}) if pricing and pricing.is_flat else None
        self._models[model] = _ModelCosts(line, pricing, flat)
        return self._models[model]

    @property
    def models(self) -> Collection[str]:
        """The models that were counted."""
        return self._models.keys()

    @property
    def costs(self) -> Costs:
        """What all of them cost."""
        priced = [costs for costs in self._models.values() if costs.pricing]
        unpriced = tuple(model for model, costs in self._models.items() if costs.pricing is None)
        if not priced:
            return Costs(unpriced=unpriced)
        least = dollars(sum(costs.least for costs in priced))
        if unpriced or any(costs.unknown for costs in priced):
            return Costs(least, unpriced=unpriced)
        return Costs(least, dollars(sum(costs.most for costs in priced) * self.attempts))

    @property
    def cheapest(self) -> int:
        """The least that one of the predictions reserves, in micro-dollars."""
        return self._cheapest or 0

    def unpriced(self) -> list[str]:
        """A sentence for each model without a price, then for all that is not known of others, with the first line."""
        without = [
            f"{Problem(costs.line, model)} has no price{_others(costs.count)}"
            for model, costs in self._models.items()
            if costs.pricing is None
        ]
        unknown = [
            f"{Problem(line, model)}: {what} is not known before it runs{_others(count)}"
            for model, costs in self._models.items()
            for what, (line, count) in costs.unknown.items()
        ]
        return without + unknown

    def demand_prices(self, budget: Budget, source: str) -> None:
        """InputError when a budget in dollars could not be kept."""
        if budget.max_cost is None or not (unpriced := self.unpriced()):
            return
        shown = [f"  {sentence}" for sentence in unpriced[:SHOWN]]
        shown += [f"  … and {len(unpriced) - SHOWN} more models"] if len(unpriced) > SHOWN else []
        first = f"{source}: --max-cost needs the price of every model; nothing was enqueued"
        raise InputError("\n".join([first, *shown, CURE]))


def _others(count: int) -> str:
    return f", and {count - 1} more prompt{'s' if count > 2 else ''}" if count > 1 else ""


def _input_of(text: bytes) -> dict[str, Any]:
    """The input of a row of the own copy."""
    try:
        values = orjson.loads(text)["input"]
    except ValueError:  # half a surrogate pair, or a number beyond 64 bits
        values = json.loads(text.decode("utf-8", "surrogatepass"))["input"]
    return values if isinstance(values, dict) else {}


@dataclass(frozen=True, slots=True)
class Estimator:
    """The prices that hold, and the predictions that a prompt may cost."""

    prices: PriceList = field(default_factory=PriceList)
    attempts: int = 1

    @classmethod
    def load(cls, config: Config, catalog: Catalog) -> Self:
        """Read the prices of a batch; PriceError when prices.toml is wrong, StorageError."""
        return cls(catalog.prices(), config.max_attempts)

    def begin(self) -> Estimate:
        """An estimate of no prompt yet."""
        return Estimate(self.prices, self.attempts)

    def estimate(self, folder: Folder, wanted: Callable[[int], bool] = lambda _: True) -> Estimate:
        """What the batch's prompts at the wanted indexes would come to; StorageError."""
        found = self.begin()
        for row in read_rows(folder):
            if wanted(row.index):
                found.add(model_of(row.text), row.index + 1, row.text)
        return found
