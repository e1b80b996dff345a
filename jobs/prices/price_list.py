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


class PriceBook:
    """The price list of a process that runs for days: prices.toml is read again when it changes."""

    def __init__(self, config: Config) -> None:
        """Read it; PriceError when it is wrong."""
        self._config = config
        self._mark = self._look_at()
        self._list = PriceList.load(config)

    def of(self, model: str) -> Pricing | None:
        """The price of a model, as it was when the file was looked at last."""
        return self._list.of(model)

    def look(self) -> None:
        """Read the file if it has changed; PriceError when it is wrong now: then the prices before hold."""
        mark = self._look_at()
        if mark != self._mark:
            self._list = PriceList.load(self._config)
            self._mark = mark

    def _look_at(self) -> tuple[int, ...]:
        try:
            found = self._config.prices_file.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns
