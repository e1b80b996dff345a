"""What a prediction costs at least and at most before it runs, and what every kind of price can say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class CostRange:
    """Micro-dollars of a prediction that succeeds; `most` is None if the price and the input do not bound it.

    `unknown` says in words what is not known then.
    """

    least: int
    most: int | None
    unknown: tuple[str, ...] = ()


class Pricing(Protocol):
    """The price of a model: one of the setting BATCH_PRICES, or a rate card."""

    def cost_range(self, values: Mapping[str, Any]) -> CostRange:
        """What a prediction of this input costs if it succeeds."""

    def bill(self, status: str, metrics: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
        """Micro-dollars of a prediction that ended so, rounded up; None when its metrics do not tell."""

    @property
    def is_flat(self) -> bool:
        """Whether the input makes no difference to the range."""
