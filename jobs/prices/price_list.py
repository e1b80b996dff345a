"""All prices that are known: those of the setting BATCH_PRICES, else the rate cards of prices.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from jobs.config import Config
from jobs.prices.cost_range import Pricing
from jobs.prices.file import load_cards
from jobs.prices.rate_card import RateCard
from jobs.prices.setting import Prices


@dataclass(frozen=True, slots=True)
class PriceList:
    """What models cost."""

    setting: Prices = field(default_factory=Prices)
    cards: Mapping[str, RateCard] = field(default_factory=dict)

    @classmethod
    def load(cls, config: Config) -> Self:
        """Read the file of rate cards; PriceError when it is wrong."""
        return cls(config.prices, load_cards(config.prices_file))

    def of(self, model: str) -> Pricing | None:
        """The price of a model as a row names it: its own, else for owner/name:version that of owner/name."""
        return self.setting.of(model) or self.cards.get(model) or self.cards.get(model.partition(":")[0])

    def __bool__(self) -> bool:
        return bool(self.setting) or bool(self.cards)
