"""What the schema of a model adds to its rate card: what it takes where a row says nothing, and how much at most."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from jobs.prices.metrics import METRICS
from jobs.prices.rate_card import RateCard

_OUTPUTS = ("image_output_count", "video_output_count", "audio_output_count")
_COUNTS_SOMETHING = re.compile(r"num|count|sample|batch|images|outputs|videos", re.IGNORECASE)


def with_schema(card: RateCard, properties: Mapping[str, Any]) -> RateCard:
    """The card with the defaults of the inputs that it depends on, and how many outputs there can be at most.

    `properties` are those of the model's input in its schema. What the card says of the most holds over the schema.
    """
    keys = properties.keys() if card.keys is None else card.keys
    defaults = {key: _default(properties.get(key)) for key in sorted(keys)}
    at_most = {name: _most(METRICS[name].keys, properties) for name in card.metrics if name in _OUTPUTS}
    return replace(
        card,
        defaults={**card.defaults, **{key: value for key, value in defaults.items() if value is not None}},
        at_most={**{name: most for name, most in at_most.items() if most is not None}, **card.at_most},
    )


def _default(schema: Any) -> str | int | float | bool | None:
    """A default that a file can have: no number like NaN, no half of a surrogate pair."""
    value = schema.get("default") if isinstance(schema, Mapping) else None
    if isinstance(value, str):
        return value if value.isascii() or value.encode("utf-8", "ignore").decode() == value else None
    return value if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else None


def _most(keys: tuple[str, ...], properties: Mapping[str, Any]) -> Decimal | None:
    """One output where no input asks for more, else as many as the schema allows."""
    if asking := [properties[key] for key in keys if key in properties]:
        most = asking[0].get("maximum") if len(asking) == 1 and isinstance(asking[0], Mapping) else None
        return Decimal(most) if type(most) is int and most > 0 else None
    numbers = (name for name, schema in properties.items() if isinstance(schema, Mapping) and _is_integer(schema))
    return None if any(map(_COUNTS_SOMETHING.search, numbers)) else Decimal(1)


def _is_integer(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") not in ("string", "boolean", "array", "number")
