"""What a tier of a rate card asks for: a variant, a resolution, sound …, as the metrics and the input tell it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from jobs.prices.metrics import number_of

Value = str | bool | Decimal
"""What a criterion is compared with; texts in small letters: a card says 768P where the input says 768p."""

AUDIO = {"with_audio": True, "without_audio": False}
"""Variants that say whether there is sound."""

AUDIO_KEYS = ("generate_audio", "with_audio")


@dataclass(frozen=True, slots=True)
class Criterion:
    """`title` is what a model's page calls it, `keys` are the inputs that may decide it."""

    title: str
    keys: tuple[str, ...]


CRITERIA: dict[str, Criterion] = {
    "model_variant": Criterion("model variant", ("quality", "variant", "model_variant", "generation_mode")),
    "resolution_target": Criterion("target resolution", ("resolution", "size", "target_resolution")),
    "resolution_upscale_target": Criterion("upscale resolution", ("target_resolution", "upscale_resolution")),
    "motion_mode": Criterion("motion mode", ("motion_mode",)),
    "with_audio": Criterion("with audio", AUDIO_KEYS),
    "video_output_duration_seconds": Criterion("second of output video", ("duration", "seconds")),
}
"""By their names in `prediction.metrics`."""


def normalize(value: Any) -> Value | None:
    """A value of a card, an input or a metric as it is compared; None for what is no such value."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.strip().casefold()
    if isinstance(value, int | float | Decimal):
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        return number if number.is_finite() else None
    return None


def input_value(
    name: str, possible: AbstractSet[Value], values: Mapping[str, Any], key: str | None = None
) -> Value | None:
    """Which of the values that a card knows the input asks for; None when that is not certain. `key`: only by this."""
    if key is None and possible <= AUDIO.keys():
        return _audio(possible, [values[each] for each in AUDIO_KEYS if each in values])
    keys = CRITERIA[name].keys if key is None else (key,)
    given = {_as_kind_of(possible, values[each]) for each in keys if each in values}
    found = given.pop() if len(given) == 1 else None
    return found if found in possible else None


def metric_value(name: str, possible: AbstractSet[Value], metrics: Mapping[str, Any]) -> Value | None:
    """What a prediction's metrics say of a criterion, None when they say nothing; it may be none of the card's values.

    A measured number is no reason to doubt the card: 6.04 s are not 6 s, and then the input decides.
    """
    told = normalize(metrics.get(name))
    if told is None and possible <= AUDIO.keys():
        return _audio(possible, [metrics.get("with_audio")])
    return told if told in possible or isinstance(told, str) else None


def _audio(possible: AbstractSet[Value], given: list[Any]) -> Value | None:
    if len(given) != 1 or not isinstance(given[0], bool):
        return None
    variant = next(name for name, sound in AUDIO.items() if sound is given[0])
    return variant if variant in possible else None


def _as_kind_of(possible: AbstractSet[Value], value: Any) -> Value | None:
    """The input's value as the card has it: `8s` where that has numbers."""
    if any(isinstance(each, Decimal) for each in possible):
        number = number_of(value)
        return None if number is None else _decimal(number)
    return normalize(value)


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)
