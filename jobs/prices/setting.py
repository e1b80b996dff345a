"""The setting BATCH_PRICES: what a prediction costs, by model, as a person writes it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

from jobs.names import model_problem
from jobs.prices.cost_range import CostRange
from jobs.prices.money import MICRO, MOST_PRICE, dollars_text, micro_dollars

MOST_RATE = 100 * MICRO
LONGEST = 2 * 86_400
"""Seconds of predict_time that can be true: a prediction is canceled after a day at the latest."""

_ENTRY = re.compile(r"(?P<model>[^=\s]+)\s*=\s*(?P<amount>[^\s/]+)(?P<second>\s*/\s*s(\s+max\s+(?P<most>\S+))?)?")


@dataclass(frozen=True, slots=True)
class Price:
    """What a prediction costs in micro-dollars: each the same, or by the second, of which `most` is reserved."""

    per_prediction: int = 0
    per_second: int | None = None
    most: int = 0

    @property
    def reserved(self) -> int:
        """What to reserve before the prediction is created."""
        return self.per_prediction if self.per_second is None else self.most

    def actual(self, predict_time: Any) -> int:
        """What it cost, rounded up: by its seconds, even above `most`, which counts when they are not known."""
        if self.per_second is None:
            return self.per_prediction
        if isinstance(predict_time, bool) or not isinstance(predict_time, int | float):
            return self.most
        if not 0 <= predict_time <= LONGEST:
            return self.most
        return math.ceil(self.per_second * Fraction(repr(predict_time)))  # as it is written: 2.3 s is 23/10 s

    @property
    def is_flat(self) -> bool:
        """Whether the input makes no difference to the range: always."""
        return True

    def cost_range(self, values: Mapping[str, Any]) -> CostRange:
        """What a prediction of any input costs if it succeeds."""
        del values
        return CostRange(self.per_prediction, self.reserved)

    def bill(self, status: str, metrics: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Micro-dollars of a prediction that ended so: nothing if it was aborted."""
        del values
        return 0 if status == "aborted" else self.actual(metrics.get("predict_time"))

    def __str__(self) -> str:
        if self.per_second is None:
            return dollars_text(self.per_prediction)
        return f"{dollars_text(self.per_second)}/s max {dollars_text(self.most)}"


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of models, as in `owner/name=0.003, owner/video=0.0014/s max 0.50` (dollars)."""

    by_model: dict[str, Price] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read such a text; ValueError names the entry that is wrong."""
        found: dict[str, Price] = {}
        for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
            try:
                model, price = _parse_entry(entry)
            except ValueError as error:
                raise ValueError(f"{entry[:200]!r}: {error}") from None
            if model in found:
                raise ValueError(f"{entry[:200]!r}: the model has a price already")
            found[model] = price
        return cls(found)

    def of(self, model: str) -> Price | None:
        """The price of a model as a row names it: its own, else for owner/name:version that of owner/name."""
        return self.by_model.get(model) or self.by_model.get(model.partition(":")[0])

    def __bool__(self) -> bool:
        return bool(self.by_model)

    def __str__(self) -> str:
        return ", ".join(f"{model}={price}" for model, price in self.by_model.items())


def _parse_entry(entry: str) -> tuple[str, Price]:
    if not (match := _ENTRY.fullmatch(entry)):
        raise ValueError("write MODEL=DOLLARS, or MODEL=DOLLARS/s max DOLLARS for a model that is paid by the second")
    if problem := model_problem(match["model"]):
        raise ValueError(problem)
    if match["second"] is None:
        return match["model"], Price(micro_dollars(match["amount"], MOST_PRICE))
    if match["most"] is None:
        raise ValueError("a price by the second needs the most that one prediction may cost: add `max DOLLARS`")
    rate, most = micro_dollars(match["amount"], MOST_RATE), micro_dollars(match["most"], MOST_PRICE)
    if not rate or not most:
        raise ValueError("a price by the second, and its max, must be above 0; a free model is MODEL=0")
    return match["model"], Price(per_second=rate, most=most)
