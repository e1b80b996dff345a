"""What models cost, as their public pages embed it, and what a prediction came to by that."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from typing import Any

from simulator.models.model import Model

Tiers = list[dict[str, Any]]
"""`billingConfig.current_tiers` of a page."""

_CRITERIA = {"model variant": "model_variant", "target resolution": "resolution_target"}
_PER = {"thousand": 1000, "million": 1_000_000}
_BY_TIME = re.compile(r"\$([0-9.]+) per second")


def price(metric: str, amount: str, title: str, kind: str = "per-unit") -> dict[str, Any]:
    """A price as pages have it."""
    words = [word for word in title.split() if word not in ("per", *_PER)]
    return {"metric": metric, "metric_display": " ".join(words), "price": amount, "title": title, "type": kind}


def criterion(title: str, value: str) -> dict[str, Any]:
    """A criterion as pages have it."""
    return {"subtype": "string", "title": title, "type": "equals", "value": value}


IMAGES: Tiers = [{"criteria": [], "prices": [price("image_output_count", "$3.00", "per thousand output images")]}]
TOKENS: Tiers = [
    {
        "prices": [
            price("token_input_count", "$0.25", "per million input tokens"),
            price("token_output_count", "$1.25", "per million output tokens"),
        ]
    }
]
SPEECH: Tiers = [
    {
        "prices": [
            price("character_input_count", "$0.10", "per thousand input characters"),
            price("audio_output_duration_seconds", "$0.001", "per second of output audio"),
        ]
    }
]
MEGAPIXELS: Tiers = [
    {
        "prices": [
            price("run_count", "$0.015", "per run", "fixed"),
            price("image_input_megapixel_count", "$0.015", "per input image megapixel"),
            price("image_output_megapixel_count", "$0.015", "per output image megapixel"),
        ]
    }
]
UNITS: Tiers = [{"prices": [price("unspecified_billing_metric", "$0.08", "per unit")]}]
POSTERS: Tiers = [
    {
        "criteria": [criterion("model variant", variant)],
        "prices": [price("image_output_count", amount, "per output image")],
    }
    for variant, amount in (("low", "$0.013"), ("medium", "$0.05"), ("high", "$0.136"), ("auto", "$0.136"))
]
FILMS: Tiers = [
    {
        "criteria": [criterion("model variant", sound), criterion("target resolution", size)],
        "prices": [price("video_output_duration_seconds", amount, "per second of output video")],
    }
    for (sound, size), amount in zip(
        product(("with_audio", "without_audio"), ("720P", "1080P")), ("$0.40", "$0.60", "$0.20", "$0.30"), strict=True
    )
]


def billed(model: Model, metrics: Mapping[str, Any]) -> Decimal:
    """Dollars of a prediction with these metrics, exactly; nothing for a model without a price."""
    if by_time := _BY_TIME.fullmatch(model.price_text):
        return Decimal(by_time[1]) * Decimal(str(metrics.get("predict_time", 0)))
    for tier in model.tiers:
        asked = {_CRITERIA[each["title"]]: each["value"].lower() for each in tier.get("criteria", ())}
        if all(str(metrics.get(name, "")).lower() == value for name, value in asked.items()):
            return sum((_billed(each, metrics) for each in tier["prices"]), Decimal(0))
    return Decimal(0)


def _billed(price: Mapping[str, Any], metrics: Mapping[str, Any]) -> Decimal:
    units = metrics.get(price["metric"], 0) if price["metric"] != "run_count" else int(bool(metrics["predict_time"]))
    if price["metric"] == "image_input_megapixel_count":
        units = math.ceil(units)
    per = next((size for word, size in _PER.items() if word in price["title"]), 1)
    return Decimal(price["price"].lstrip("$")) * Decimal(str(units)) / per
