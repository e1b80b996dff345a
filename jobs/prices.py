"""What a prediction costs, by model. Money is whole micro-dollars: sums of it are exact, in Python and in Lua."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

from jobs.names import model_problem

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

MOST_COST = 10_000_000 * MICRO
"""The largest budget; sums of this size are still exact in JSON that Lua writes (14 digits)."""

MOST_PRICE = 10_000 * MICRO
MOST_RATE = 100 * MICRO
LONGEST = 2 * 86_400
"""Seconds of predict_time that can be true: a prediction is canceled after a day at the latest."""

_NUMBER = re.compile(r"(\d{1,12}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", re.ASCII)
_ENTRY = re.compile(r"(?P<model>[^=\s]+)\s*=\s*(?P<amount>[^\s/]+)(?P<second>\s*/\s*s(\s+max\s+(?P<most>\S+))?)?")


def micro_dollars(text: str, most: int = MOST_COST) -> int:
    """Dollars as written, in micro-dollars; ValueError unless 0 to `most` with six decimals at the most."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no amount in dollars, such as 0.003 or 12")
    micro = Fraction(text) * MICRO
    if micro > most:
        raise ValueError(f"{text[:80]} dollars are too many; {dollars_text(most)} is the most")
    if micro.denominator != 1:
        raise ValueError(f"{text[:80]} has more than six decimals")
    return int(micro)


def dollars_text(micro: int) -> str:
    """Micro-dollars in dollars, exactly: `0.003`."""
    whole, rest = divmod(micro, MICRO)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


def dollars(micro: int) -> float:
    """Micro-dollars as the number of dollars that results and statuses carry."""
    return micro / MICRO


def money(amount: float) -> str:
    """Dollars for people: cents, or below a dollar three digits that count: `$12.30`, `$0.0123`."""
    if amount >= 1 or not amount:
        return f"${amount:,.2f}"
    digits = min(2 - math.floor(math.log10(amount)), 6)
    whole, _, rest = f"{amount:.{digits}f}".partition(".")
    return f"${whole}.{rest.rstrip('0'):0<2}"


@dataclass(frozen=True, slots=True)
class Price:
    """What a prediction costs in micro-dollars: each the same, or by the second, of which `most` is reserved."""

    per_prediction: int = 0
    per_second: int | None = None
    most: int = 0

    @property
    def reserved(self) -> int:
        """What to set aside before the prediction is created."""
        return self.per_prediction if self.per_second is None else self.most

    def actual(self, predict_time: Any) -> int:
        """What it came to, rounded up: by its seconds, also above `most`, which is taken when they are not known."""
        if self.per_second is None:
            return self.per_prediction
        if isinstance(predict_time, bool) or not isinstance(predict_time, int | float):
            return self.most
        if not 0 <= predict_time <= LONGEST:
            return self.most
        return math.ceil(self.per_second * Fraction(repr(predict_time)))  # as it is written: 2.3 s is 23/10 s

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
