"""All prices that are known: those of the setting BATCH_PRICES, else the rate cards of prices.toml."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

from jobs.config import Config
from jobs.prices.cost_range import Pricing
from jobs.prices.file import load_cards
from jobs.prices.rate_card import RateCard
from jobs.prices.schema_defaults import with_schema
from jobs.prices.setting import Prices

NO_CARDS: Mapping[str, RateCard] = MappingProxyType({})

Properties = Callable[[str], Mapping[str, Any]]
"""The inputs of a model by the schema that the batch knows of it; none when it knows none."""


def no_properties(_model: str) -> Mapping[str, Any]:
    """No schema is known."""
    return {}


@dataclass(frozen=True, slots=True)
class PriceList:
    """What models cost. `kept` are the cards that a batch began with, by the models of its rows: they hold for it."""

    setting: Prices = field(default_factory=Prices)
    cards: Mapping[str, RateCard] = field(default_factory=dict)
    kept: Mapping[str, RateCard] = field(default_factory=dict)
    properties: Properties = no_properties

    @classmethod
    def load(cls, config: Config) -> Self:
        """Read the file of rate cards; PriceError when it is wrong."""
        return cls(config.prices, load_cards(config.prices_file))

    def of(self, model: str) -> Pricing | None:
        """The price of a model as a row names it: its own, else for owner/name:version that of owner/name."""
        return self.setting.of(model) or self.card(model)

    def card(self, model: str) -> RateCard | None:
        """Its rate card, also where the setting has a price, with what the schema says of inputs that rows lack."""
        if kept := _find(self.kept, model):
            return kept
        card = _find(self.cards, model)
        properties = self.properties(model) if card else None
        return with_schema(card, properties) if card and properties else card

    def all_cards(self, models: Iterable[str]) -> dict[str, RateCard]:
        """The cards that a batch with these models is estimated by, which it keeps."""
        return {model: card for model in models if (card := self.card(model))}

    def warnings(self, models: Iterable[str]) -> list[str]:
        """Which of these models cost something else by now than the batch counts."""
        found = {}
        for model in models:
            kept, now = _find(self.kept, model), _find(self.cards, model)
            if kept and now and kept.tiers != now.tiers and not self.setting.of(model):
                found[now.model] = (
                    f"{now.model}: this batch keeps the prices that it began with: {kept}; now they are {now}. "
                    "BATCH_PRICES would hold over both"
                )
        return list(found.values())

    def __bool__(self) -> bool:
        return bool(self.setting) or bool(self.cards) or bool(self.kept)


def _find(cards: Mapping[str, RateCard], model: str) -> RateCard | None:
    """The card of a model's own name, else for owner/name:version that of owner/name."""
    return cards.get(model) or cards.get(model.partition(":")[0])


class PriceBook:
    """The price list of a process that runs for days: prices.toml is read again when it changes."""

    def __init__(self, config: Config) -> None:
        """Read it; PriceError when it is wrong."""
        self._config = config
        self._mark = self._look_at()
        self._list = PriceList.load(config)

    def of(self, model: str, kept: Mapping[str, RateCard] = NO_CARDS) -> Pricing | None:
        """The price of a model, as it was when the file was looked at last; the cards that its batch `kept` hold."""
        return replace(self._list, kept=kept).of(model) if kept else self._list.of(model)

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
