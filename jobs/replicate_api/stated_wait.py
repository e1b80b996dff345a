"""How long an answer asks us to wait, in a header, a field of its body or its text, in any common form."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_WAIT = 3600.0
"""Seconds; a longer Retry-After would outlast every output, so it is capped."""

DEEPEST = 6
"""Levels of a body that are searched."""

_EPOCH, _EPOCH_MS = 1e9, 1e11
"""A larger number is a point in time: Unix seconds, or milliseconds."""

_SECONDS = frozenset({"retryafter", "retryafterseconds", "retrydelay", "resetafter", "xretryafter"})
_MILLISECONDS = frozenset({"retryafterms", "retryaftermilliseconds", "retryaftermillis", "xmsretryafterms"})
_RESETS = ("x-ratelimit-reset-after", "x-ratelimit-reset-requests", "x-ratelimit-reset", "x-rate-limit-reset")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"\d+(?:\.\d+)?|\ban?"
_UNIT = r"(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)(?![a-z])"
_PART = rf"(?:{_NUMBER})\s*{_UNIT}"
_PARTS = re.compile(rf"({_NUMBER})\s*({_UNIT})", re.IGNORECASE | re.ASCII)
_DURATION = rf"{_PART}(?:[\s,]*(?:and\s+)?{_PART})*"
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?\s*(?:Z|[+-]\d\d:?\d\d)"
_SAID = re.compile(
    r"\b(?:resets?|available|again|retry|retrying|wait|after|delay)\b[^\d.;]{0,40}?"
    rf"(?:(?P<duration>{_DURATION})|(?P<time>{_TIME})|(?P<seconds>\d+(?:\.\d+)?)(?=\s*(?:$|[.,;)])))",
    re.IGNORECASE | re.ASCII,
)


def stated_wait(headers: Mapping[str, str], body: Mapping[str, Any], text: str = "") -> float | None:
    """Return the longest wait that is asked for, in seconds; None when there is none.

    A header that only says when a limit resets counts when nothing asks for a wait.
    """
    now = _moment(headers.get("date")) or time.time()
    asked = [*_in_fields(dict(headers) | dict(body), now), *_in_text(text, now)]
    return _longest(asked) or _longest([*_resets(headers, now)])


def _longest(waits: list[float]) -> float | None:
    return min(max((wait for wait in waits if math.isfinite(wait) and wait > 0), default=0.0), LONGEST_WAIT) or None


def _in_fields(body: Mapping[str, Any], now: float) -> Iterator[float]:
    for name, value in _leaves(body, DEEPEST):
        if name in _SECONDS:
            yield from _seconds(value, now)
        elif name in _MILLISECONDS:
            yield from (wait / 1000 for wait in _seconds(value, now))
        elif isinstance(value, str):
            yield from _in_text(value, now)


def _leaves(value: Any, levels: int, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and levels:
        for key, inner in value.items():
            yield from _leaves(inner, levels - 1, re.sub(r"[^a-z]", "", str(key).lower()))
    elif isinstance(value, list) and levels:
        for inner in value:
            yield from _leaves(inner, levels - 1, name)
    else:
        yield name, value


def _seconds(value: Any, now: float) -> Iterator[float]:
    """A number of seconds, a point in time or a duration, as a wait."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        if isinstance(value, str):
            yield from _until(value, now)
    else:
        yield number if number <= _EPOCH else number / (1000 if number > _EPOCH_MS else 1) - now


def _until(text: str, now: float) -> Iterator[float]:
    if re.fullmatch(_DURATION, text.strip(), re.IGNORECASE | re.ASCII):
        yield _length(text)
    elif moment := _moment(text):
        yield moment - now


def _length(duration: str) -> float:
    total = 0.0
    for number, unit in _PARTS.findall(duration):
        short = "ms" if unit.lower().startswith(("ms", "milli")) else unit[0].lower()
        total += (1.0 if number.lower().startswith("a") else float(number)) * _UNITS[short]
    return total


def _in_text(text: str, now: float) -> Iterator[float]:
    for said in _SAID.finditer(text[:4000]):
        if said["duration"]:
            yield _length(said["duration"])
        elif said["time"]:
            yield from _until(said["time"], now)
        else:
            yield float(said["seconds"])


def _resets(headers: Mapping[str, str], now: float) -> Iterator[float]:
    """Replicate's own `ratelimit-reset` is left out: it was never seen to say anything but 1."""
    for name in _RESETS:
        yield from _seconds(headers.get(name), now)


def _moment(text: str | None) -> float | None:
    """A date of HTTP or ISO 8601 as Unix seconds."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return read(text).timestamp() if text else None
        except (TypeError, ValueError, OverflowError):
            continue
    return None
