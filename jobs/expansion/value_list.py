"""The values that `--each KEY=VALUES` names: JSON or text between commas, and ranges of whole numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from jobs.expansion.variant_ids import canonical, slug
from jobs.names import model_problem

MOST = 1_000_000
"""Values of a key, and rows that one row may become."""

_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})", re.ASCII)
_LIKE_RANGE = re.compile(r"-?[\d.]*\d\.\.+-?\.?\d[\d.]*", re.ASCII)
_WHOLE = re.compile(r"(minus)?(0|[1-9]\d*)", re.ASCII)
NO_INPUTS = ("id", "custom_id", "input")


def _as_it_is(_key: str, value: Any) -> Any:
    return value


class ValueList:
    """A key and its values in the order in which they are given; ranges are never expanded in memory.

    `convert` makes of a key and a value what is set; an id has the value as it is given.
    """

    def __init__(
        self, key: str, parts: Sequence[range | tuple[Any, ...]], convert: Callable[[str, Any], Any] = _as_it_is
    ) -> None:
        _check_distinct(key, parts)
        self.key, self._label = key, slug(key)
        self._parts = [
            part if isinstance(part, range) else [(convert(key, one), self._name(one)) for one in part]
            for part in parts
        ]

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(map(len, self._parts))

    def values(self) -> Iterator[tuple[Any, str]]:
        """Yield each value, and how it stands in an id."""
        for part in self._parts:
            yield from ((number, self._name(number)) for number in part) if isinstance(part, range) else part

    def _name(self, value: Any) -> str:
        return f"{self._label}-{slug(value)}"


def read_values(text: str, convert: Callable[[str, Any], Any] = _as_it_is) -> ValueList:
    """Read `KEY=VALUES`, `convert` as for ValueList; ValueError with a sentence."""
    key, equals, values = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r} is not KEY=VALUES")
    if key in NO_INPUTS:
        raise ValueError(f"{key!r} cannot be set by --each")
    parts = [part if isinstance(part, range) else (part,) for part in _split(key, values)]
    if key == "model":
        _check_models(parts)
        return ValueList(key, parts)
    return ValueList(key, parts, convert)


def json_or_text(text: str) -> Any:
    """The JSON value that the text is, else the text; NaN and Infinity are no JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _split(key: str, text: str) -> Iterator[Any | range]:
    """Yield the values between the commas; a value that begins with a quote or bracket is JSON, commas and all."""
    place, ended = 0, False
    while not ended:
        rest = text[place:].lstrip()
        if rest.startswith(('"', "[", "{")):
            value, end = _json_value(key, rest)
        else:
            end = len(rest.partition(",")[0])
            value = _plain_value(key, rest[:end].strip())
        yield value
        ended = end == len(rest)
        place = len(text) - len(rest) + end + 1


def _json_value(key: str, text: str) -> tuple[Any, int]:
    try:
        value, end = _decoder.raw_decode(text)
        end += len(text[end:]) - len(text[end:].lstrip())
    except (ValueError, RecursionError):
        end = -1
    if end < 0 or text[end : end + 1] not in ("", ","):
        raise ValueError(f"{key}: {text[:40]!r} begins as JSON and is none; text with a comma stands in double quotes")
    return value, end


def _plain_value(key: str, text: str) -> Any | range:
    if not text:
        raise ValueError(f'{key} has an empty value; for an empty text write ""')
    if not (found := _RANGE.fullmatch(text)):
        if _LIKE_RANGE.fullmatch(text):
            raise ValueError(
                f"{key}: {text!r} is no range: only whole numbers are counted, as in 1..4; list the values"
            )
        return json_or_text(text)
    first, last = int(found[1]), int(found[2])
    if first > last:
        raise ValueError(f"{key}: {text!r} counts down; write {last}..{first}")
    if last - first >= MOST:
        raise ValueError(f"{key}: {text!r} has {last - first + 1:,} values; {MOST:,} is the most")
    return range(first, last + 1)


def _check_models(parts: Sequence[range | tuple[Any, ...]]) -> None:
    for part in parts:
        for model in part:
            if problem := model_problem(model) if isinstance(model, str) else f"{model!r} is not a model":
                raise ValueError(problem)


def _check_distinct(key: str, parts: Sequence[range | tuple[Any, ...]]) -> None:
    """ValueError when a value is there twice, or two would give the same id."""
    ranges = sorted((part for part in parts if isinstance(part, range)), key=lambda numbers: numbers.start)
    for one, other in pairwise(ranges):
        if other.start < one.stop:
            raise ValueError(f"{key} has {other.start} twice")
    seen: dict[str, Any] = {}
    for value in (value for part in parts if isinstance(part, tuple) for value in part):
        name = slug(value).lower()
        if name in seen:
            raise ValueError(_twins(key, seen[name], value))
        seen[name] = value
        number = int(name.replace("minus", "-")) if _WHOLE.fullmatch(name) else None
        if number is not None and any(number in numbers for numbers in ranges):
            raise ValueError(_twins(key, number, value))


def _twins(key: str, one: Any, other: Any) -> str:
    first, second = canonical(one), canonical(other)
    if first == second:
        return f"{key} has {first} twice"
    return f"{key}: {first} and {second} would give the same id; leave one of them to another batch"
