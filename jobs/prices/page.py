"""A model's public page → its rate card, or a sentence: the page is nobody's contract, and a guess costs money."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from jobs.prices.criteria import CRITERIA, Value, normalize
from jobs.prices.file import tiers_problem
from jobs.prices.metrics import METRICS, RUN, RUN_TIME
from jobs.prices.rate_card import Rate, RateCard, Tier
from jobs.text import printable

_SCRIPT = re.compile(r"""<script\b[^>]*type=["']application/json["'][^>]*>(.*?)</script>""", re.DOTALL | re.IGNORECASE)
_AMOUNT = re.compile(r"\$(\d{1,5}(?:\.\d{1,12})?)", re.ASCII)
_BY_TIME = re.compile(r"\$(\d{1,5}(?:\.\d{1,12})?) per second", re.ASCII)
_MANY = {"": 1, "thousand ": 1000, "million ": 1_000_000}
_TITLES = {criterion.title: name for name, criterion in CRITERIA.items()}


class _Unclear(Exception):
    """Something on the page has more than one meaning, or none that is known."""


def read_page(html: str, model: str, source: str, date: dt.date) -> RateCard | str:
    """The rate card of `owner/name` on its page, or why there is none that is certain."""
    models = [each for props in _embedded(html) for each in _objects(props) if _is_about(each, model)]
    configs = _distinct([each["billingConfig"] for each in models if each.get("billingConfig")])
    if len(configs) > 1:
        return f"{model}: its page has {len(configs)} rate cards"
    try:
        tiers = _tiers(configs[0]) if configs else (_by_time(models),)
    except _Unclear as unclear:
        return f"{model}: {printable(str(unclear))[:300]}"
    except (AttributeError, TypeError):
        return f"{model}: its rate card has a form that this version does not know"
    if problem := tiers_problem(tiers):
        return f"{model}: {problem}"
    return RateCard(model, tiers, source=source, date=date)


def _embedded(html: str) -> Iterator[Any]:
    for text in _SCRIPT.findall(html):
        try:
            yield json.loads(text)
        except (ValueError, RecursionError):
            continue


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack += item.values()
        elif isinstance(item, list):
            stack += item


def _is_about(found: dict[str, Any], model: str) -> bool:
    """Whether an object with a price is of this model: a page may show others beside it."""
    if "billingConfig" not in found and "price" not in found:
        return False
    said = [found.get("owner"), found.get("name")]
    return all(not isinstance(part, str) or part == own for part, own in zip(said, model.split("/"), strict=True))


def _distinct(values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _by_time(models: list[dict[str, Any]]) -> Tier:
    """What older pages have in place of a card: the price of a second of their hardware."""
    said = _distinct([each["price"] for each in models if isinstance(each.get("price"), str) and "name" in each])
    if not said:
        raise _Unclear("its page names no price")
    found = _BY_TIME.fullmatch(said[0].strip()) if len(said) == 1 else None
    if not found:
        raise _Unclear(f"its page says only {' and '.join(map(repr, said[:3]))}, which is not a certain price")
    return Tier((Rate(RUN_TIME, Decimal(found[1])),))


def _tiers(config: Any) -> tuple[Tier, ...]:
    tiers = config.get("current_tiers") if isinstance(config, Mapping) else None
    if not isinstance(tiers, list) or not tiers:
        raise _Unclear("its rate card has no current tiers")
    return tuple(_tier(tier) for tier in tiers)


def _tier(tier: Any) -> Tier:
    prices, criteria = tier.get("prices"), tier.get("criteria") or []
    if not isinstance(prices, list) or not prices or not isinstance(criteria, list):
        raise _Unclear("a tier of its rate card has no prices")
    return Tier(tuple(map(_rate, prices)), dict(map(_criterion, criteria)))


def _criterion(criterion: Any) -> tuple[str, Value]:
    title, value = str(criterion.get("title")).strip().casefold(), normalize(criterion.get("value"))
    if criterion.get("type") != "equals" or title not in _TITLES or value is None:
        raise _Unclear(f"its rate card asks for {json.dumps(criterion)[:200]}, which this version does not know")
    return _TITLES[title], value


def _rate(price: Any) -> Rate:
    metric, title = str(price.get("metric")), " ".join(str(price.get("title")).split()).casefold()
    found, many = _AMOUNT.fullmatch(str(price.get("price")).strip()), _many(metric, title)
    is_known = price.get("type", "per-unit") == "per-unit" or (price.get("type"), metric) == ("fixed", RUN)
    if not found or many is None or not is_known or price.get("metric_count", many) != many:
        raise _Unclear(f"its rate card says {price.get('price')} {title} of {metric}, which is not a certain price")
    return Rate(metric, Decimal(found[1]), many)


def _many(metric: str, title: str) -> int | None:
    """For how many units a price is, as its title says; None when it is another title than that of the metric."""
    if metric not in METRICS:
        return None
    unit, plural = METRICS[metric].unit, METRICS[metric].plural
    titles = {f"per {word}{plural if word else unit}": many for word, many in _MANY.items()}
    return titles.get(title)
