"""JSON as the API writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_canonical = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def compact(value: Any) -> bytes:
    """JSON without white space, UTF-8."""
    return _compact(value).encode("utf-8", "surrogatepass")


def canonical(value: Any) -> bytes:
    """One text for equal values: sorted keys."""
    return _canonical(value).encode()


def timestamp(seconds: float, digits: int = 6) -> str:
    """Unix seconds as ISO 8601 in UTC, with 3, 6 or 9 digits of fraction."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26]
    return f"{text[:-3] if digits == 3 else text}{'000' if digits == 9 else ''}Z"
