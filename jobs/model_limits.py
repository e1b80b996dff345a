"""Limits of single models, below those of the account: creates a minute, and predictions in flight at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from jobs.names import model_problem

_ENTRY = re.compile(
    r"(?P<model>[^=\s]+)\s*=\s*(?=\S)((?P<rate>\d{1,6})\s*/\s*min)?\s*(max\s+(?P<most>\d{1,6}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class ModelLimit:
    """What one model may have, for all workers together; None: no limit of its own."""

    model: str
    per_minute: int | None = None
    at_once: int | None = None

    def __str__(self) -> str:
        rate = "" if self.per_minute is None else f"{self.per_minute}/min"
        return f"{rate} max {self.at_once}".strip() if self.at_once else rate


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The limits of models, as in `owner/name=60/min, owner/video=max 5, owner/other=30/min max 10`."""

    by_model: dict[str, ModelLimit] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read such a text; ValueError names the entry that is wrong."""
        found: dict[str, ModelLimit] = {}
        for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
            try:
                limit = _parse_entry(entry)
            except ValueError as error:
                raise ValueError(f"{entry[:200]!r}: {error}") from None
            if limit.model in found:
                raise ValueError(f"{entry[:200]!r}: the model has a limit already")
            found[limit.model] = limit
        return cls(found)

    def of(self, model: str) -> ModelLimit | None:
        """The limit of a model as a row names it: its own, else for owner/name:version that of owner/name."""
        return self.by_model.get(model) or self.by_model.get(model.partition(":")[0])

    def __str__(self) -> str:
        return ", ".join(f"{model}={limit}" for model, limit in self.by_model.items())


def _parse_entry(entry: str) -> ModelLimit:
    if not (match := _ENTRY.fullmatch(entry)):
        raise ValueError("write MODEL=60/min, MODEL=max 5, or MODEL=60/min max 5")
    if problem := model_problem(match["model"]):
        raise ValueError(problem)
    rate, most = (int(text) if text else None for text in match.group("rate", "most"))
    if rate == 0 or most == 0:
        raise ValueError("a limit is above 0")
    return ModelLimit(match["model"], rate, most)
