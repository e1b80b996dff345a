"""A model's rate card: tiers with criteria and prices. What an input will cost, and what a prediction has cost."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from jobs.prices.cost_range import CostRange
from jobs.prices.criteria import CRITERIA, Value, input_value, metric_value
from jobs.prices.metrics import METRICS, RUN, RUN_TIME, Units, units_in
from jobs.prices.money import MICRO

MOST_KNOWN = 10_000
"""Ranges that a card remembers: the rows of a file ask for few different ones."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`dollars` for so many units of a metric."""

    metric: str
    dollars: Decimal
    per: int = 1

    def micro_dollars(self, units: Fraction) -> Fraction:
        """What so many units cost, exactly."""
        units = Fraction(math.ceil(units)) if METRICS[self.metric].whole else units
        return Fraction(self.dollars) * units * MICRO / self.per

    def __str__(self) -> str:
        metric = METRICS[self.metric]
        return f"${self.dollars:f} per {metric.unit if self.per == 1 else f'{self.per:,} {metric.plural}'}"


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates that add up, for predictions that fulfil all criteria."""

    rates: tuple[Rate, ...]
    criteria: Mapping[str, Value] = field(default_factory=dict)

    def allows(self, facts: Mapping[str, Value]) -> bool:
        """Whether nothing that is known speaks against the tier."""
        return all(facts.get(name, value) == value for name, value in self.criteria.items())

    def __str__(self) -> str:
        criteria = ", ".join(_named(name, value) for name, value in self.criteria.items())
        return (f"{criteria}: " if criteria else "") + " + ".join(map(str, self.rates))


@dataclass(frozen=True)
class RateCard:
    """What a model costs. Its tiers have the same criteria with other values: at most one fits a prediction.

    `defaults` are inputs as the model takes them when a row has none, `at_most` the most units of a metric in one
    prediction, `inputs` the input that decides a criterion or a metric when that is none of the usual ones.
    """

    model: str
    tiers: tuple[Tier, ...]
    source: str = ""
    date: dt.date | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, Decimal] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    _known: dict[str, CostRange] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """All that it counts, each once."""
        return tuple(dict.fromkeys(rate.metric for tier in self.tiers for rate in tier.rates))

    @property
    def keys(self) -> frozenset[str] | None:
        """The inputs that make a difference; None: any may."""
        return None if self._read_whole else self._own_keys

    @property
    def is_flat(self) -> bool:
        """Whether the input makes no difference to the range."""
        return self.keys == frozenset()

    def cost_range(self, values: Mapping[str, Any]) -> CostRange:
        """What a prediction of this input costs if it succeeds and gives what the input asks for."""
        key = repr([(name, values[name]) for name in sorted(self._own_keys & values.keys())])
        if self._read_whole:
            filled = self._filled(values)
            units = (self._units(metric, filled) for metric in self._read_whole)
            key += "".join(f" {each.least} {each.most}" for each in units)
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._range(values)
        return self._known[key]

    def bill(self, status: str, metrics: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
        """Micro-dollars of a prediction that ended so, rounded up; None when its metrics do not tell.

        What has failed or was canceled is charged by what ran of it, what was aborted is free. If several tiers may
        have been meant, it is the dearest.
        """
        if status == "aborted":
            return 0
        if status not in ("succeeded", "failed", "canceled"):
            return None
        facts = self._facts(values)
        for name, possible in self._criteria.items():
            if (told := metric_value(name, possible, metrics)) is not None:
                facts[name] = told
        bills = [_bill(tier, metrics, succeeded=status == "succeeded") for tier in self.tiers if tier.allows(facts)]
        known = [bill for bill in bills if bill is not None]
        return max(known) if known and len(known) == len(bills) else None

    @cached_property
    def _read_whole(self) -> tuple[str, ...]:
        """The metrics that any input may tell something of."""
        return tuple(metric for metric in self.metrics if METRICS[metric].reads_all)

    @cached_property
    def _own_keys(self) -> frozenset[str]:
        """The inputs that tell something of the criteria and of all other metrics."""
        metrics = [METRICS[name] for name in self.metrics if not METRICS[name].reads_all]
        named = {key for metric in metrics for key in (*metric.keys, *metric.beside)}
        criteria = {key for name in self._criteria for key in CRITERIA[name].keys}
        audio = CRITERIA["with_audio"].keys if "model_variant" in self._criteria else ()
        return frozenset({*named, *criteria, *audio, *self.inputs.values()})

    @cached_property
    def _criteria(self) -> dict[str, set[Value]]:
        """The values of each criterion."""
        found: dict[str, set[Value]] = {}
        for tier in self.tiers:
            for name, value in tier.criteria.items():
                found.setdefault(name, set()).add(value)
        return found

    def _facts(self, values: Mapping[str, Any]) -> dict[str, Value]:
        values = self._filled(values)
        found = {
            name: input_value(name, possible, values, self.inputs.get(name))
            for name, possible in self._criteria.items()
        }
        return {name: value for name, value in found.items() if value is not None}

    def _filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The input with the defaults of what it lacks, or has as null."""
        return {**self.defaults, **{name: value for name, value in values.items() if value is not None}}

    def _range(self, values: Mapping[str, Any]) -> CostRange:
        facts, values = self._facts(values), self._filled(values)
        possible = [tier for tier in self.tiers if tier.allows(facts)]
        if not possible:
            return CostRange(0, None, ("which of its prices holds",))
        ranges = [list(self._costs(tier, values)) for tier in possible]
        least = min(sum(low for _, low, _ in costs) for costs in ranges)
        most = max(sum(high or 0 for _, _, high in costs) for costs in ranges)
        unknown = dict.fromkeys(metric for costs in ranges for metric, _, high in costs if high is None)
        words = tuple(f"the number of {METRICS[metric].plural} ({metric})" for metric in unknown)
        return CostRange(math.ceil(least), None if unknown else math.ceil(most), words)

    def _costs(self, tier: Tier, values: Mapping[str, Any]) -> Iterator[tuple[str, Fraction, Fraction | None]]:
        """Each metric with what it costs at least and at most."""
        for rate in tier.rates:
            units = self._units(rate.metric, values)
            high = None if units.most is None else rate.micro_dollars(units.most)
            yield rate.metric, rate.micro_dollars(units.least), high

    def _units(self, name: str, values: Mapping[str, Any]) -> Units:
        metric = METRICS[name]
        units = metric.estimate(values, (self.inputs[name],) if name in self.inputs else metric.keys)
        if units.most is not None or name not in self.at_most:
            return units
        most = Fraction(self.at_most[name])
        return Units(min(units.least, most), most)

    def __str__(self) -> str:
        return "; ".join(map(str, self.tiers))


def _bill(tier: Tier, metrics: Mapping[str, Any], *, succeeded: bool) -> int | None:
    total = Fraction(0)
    for rate in tier.rates:
        units = _counted(rate.metric, metrics, succeeded=succeeded)
        if units is None:
            return None
        total += rate.micro_dollars(units)
    return math.ceil(total)


def _counted(metric: str, metrics: Mapping[str, Any], *, succeeded: bool) -> Fraction | None:
    """How many units there were; what a failure does not mention it has none of, but for its time."""
    if metric in metrics:
        return units_in(metrics[metric])
    if metric == RUN:
        return Fraction(succeeded or metrics.get(RUN_TIME) != 0)
    return None if succeeded or metric == RUN_TIME else Fraction(0)


def _named(name: str, value: Value) -> str:
    return f"{CRITERIA[name].title} {'yes' if value is True else 'no' if value is False else value}"
