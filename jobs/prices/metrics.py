"""What a rate card counts, as Replicate names it in `prediction.metrics`, and what an input tells of it beforehand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MOST_UNITS = 10**12
"""More of anything is no measurement."""

RUN = "run_count"
RUN_TIME = "predict_time"

_NUMBER = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*(?:s|sec|secs|second|seconds)?\s*", re.ASCII)
_MEGAPIXELS = re.compile(r"\s*(\d{1,4}(?:\.\d{1,4})?)\s*MP\s*", re.ASCII | re.IGNORECASE)
_FILE = re.compile(r"\s*(https?://|data:)\S+\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Units:
    """How many there will be, at least and at most; None: not bounded."""

    least: Fraction = Fraction(0)
    most: Fraction | None = None


Estimator = Callable[[Mapping[str, Any], tuple[str, ...]], Units]
"""What an input, with its defaults, tells; of these keys, where the metric has keys of its own."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`unit` in words; `keys` are the inputs that tell how many, with those `beside`; `reads_all`: any input may.

    `whole`: a part of a unit is billed as one.
    """

    unit: str
    estimate: Estimator
    keys: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    reads_all: bool = False
    whole: bool = False

    @property
    def plural(self) -> str:
        """`output images`, `seconds of output video`."""
        head, of, tail = self.unit.partition(" of ")
        return f"{head}s{of}{tail}"


def number_of(value: Any) -> Fraction | None:
    """A number above 0, also one that is written `8` or `8s`; None for anything else."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value)
        number = Fraction(found[1]) if found else Fraction(0)
    else:
        number = units_in(value) or Fraction(0)
    return number if number > 0 else None


def units_in(value: Any) -> Fraction | None:
    """A number of units as `metrics` has it, exactly as it is written; None when it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Fraction(repr(value)) if 0 <= value <= MOST_UNITS else None


def requested_number(values: Mapping[str, Any], keys: tuple[str, ...]) -> Fraction | None:
    """The number that the input gives under these keys; None when there is none, or two of them differ."""
    numbers = {number_of(values[key]) for key in keys if key in values}
    return numbers.pop() if len(numbers) == 1 else None


def _run(_values: Mapping[str, Any], _keys: tuple[str, ...]) -> Units:
    return Units(Fraction(1), Fraction(1))


def _unknown(_values: Mapping[str, Any], _keys: tuple[str, ...]) -> Units:
    return Units()


def _outputs(values: Mapping[str, Any], keys: tuple[str, ...]) -> Units:
    """As many as the input asks for; a key such as max_images only limits them."""
    number = requested_number(values, keys)
    only_limited = all(key.startswith("max_") for key in keys if key in values)
    return Units(Fraction(1) if number is None or only_limited else number, number)


def _duration(values: Mapping[str, Any], keys: tuple[str, ...]) -> Units:
    """The seconds that the input asks for, of each output."""
    seconds, outputs = requested_number(values, keys), Fraction(1)
    if any(key in values for key in _COUNTS):
        outputs = requested_number(values, _COUNTS) or Fraction(0)
    if seconds is None or not outputs:
        return Units()
    return Units(seconds, seconds * outputs)


def _limited(values: Mapping[str, Any], keys: tuple[str, ...]) -> Units:
    return Units(most=requested_number(values, keys))


def _characters(values: Mapping[str, Any], keys: tuple[str, ...]) -> Units:
    """At most all text of the input, in UTF-16 as JavaScript counts; at least that of the one key to be read."""
    texts = [values[key] for key in keys if isinstance(values.get(key), str)]
    least = len(texts[0].strip()) if len(texts) == 1 else 0
    most = sum(len(text.encode("utf-16-le", "surrogatepass")) // 2 for text in _texts(values))
    return Units(Fraction(least), Fraction(most))


def _input_megapixels(values: Mapping[str, Any], _keys: tuple[str, ...]) -> Units:
    """None without a file in the input; how large a file is, its URL does not tell."""
    return Units() if any(_FILE.fullmatch(text) for text in _texts(values)) else Units(most=Fraction(0))


def _output_megapixels(values: Mapping[str, Any], keys: tuple[str, ...]) -> Units:
    """By width and height, or a text such as `2 MP`; a megapixel may have 10⁶ or 2²⁰ pixels, and parts are rounded."""
    width, height = number_of(values.get("width")), number_of(values.get("height"))
    texts = [found for key in keys if (found := _MEGAPIXELS.fullmatch(str(values.get(key))))]
    outputs = Fraction(1)
    if any(key in values for key in _COUNTS):
        outputs = requested_number(values, _COUNTS) or Fraction(0)
    if not outputs or (bool(width and height) == bool(texts)) or len(texts) > 1:
        return Units()
    if texts:
        size = Fraction(texts[0][1])
        return Units(size, math.ceil(size) * outputs)
    pixels = width * height if width and height else Fraction(0)
    return Units(Fraction(math.floor(pixels / 2**20)), math.ceil(pixels / 10**6) * outputs)


def _texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            stack += item.values()
        elif isinstance(item, list):
            stack += item


_COUNTS = ("num_outputs", "num_images", "number_of_images", "max_images", "n")
_SECONDS = ("duration", "seconds", "duration_seconds")
_TOKENS = ("max_tokens", "max_new_tokens", "max_completion_tokens", "max_output_tokens")
_SIZES = ("megapixels", "resolution")

_INPUT_MEGAPIXELS = Metric("input image megapixel", _input_megapixels, reads_all=True, whole=True)
_OUTPUT_MEGAPIXELS = Metric("output image megapixel", _output_megapixels, _SIZES, ("width", "height", *_COUNTS))

METRICS: dict[str, Metric] = {
    RUN: Metric("run", _run),
    RUN_TIME: Metric("second", _unknown),
    "image_output_count": Metric("output image", _outputs, _COUNTS),
    "video_output_count": Metric("output video", _outputs, ("num_outputs", "num_videos", "number_of_videos")),
    "audio_output_count": Metric("output audio", _outputs, ("num_outputs",)),
    "video_output_duration_seconds": Metric("second of output video", _duration, _SECONDS, _COUNTS),
    "audio_output_duration_seconds": Metric("second of output audio", _duration, _SECONDS, _COUNTS),
    "token_input_count": Metric("input token", _unknown),
    "token_output_count": Metric("output token", _limited, _TOKENS),
    "character_input_count": Metric("input character", _characters, ("text", "prompt"), reads_all=True),
    "character_output_count": Metric("output character", _unknown),
    "image_input_megapixels": _INPUT_MEGAPIXELS,
    "image_input_megapixel_count": _INPUT_MEGAPIXELS,
    "image_output_megapixels": _OUTPUT_MEGAPIXELS,
    "image_output_megapixel_count": _OUTPUT_MEGAPIXELS,
    "unspecified_billing_metric": Metric("unit", _unknown),
}
