"""What is given on the command line as text, read as values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn


def read_input(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as an input: a value is JSON if it parses, else text. ValueError names a wrong pair."""
    given = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not KEY=VALUE")
        given[key] = json_or_text(text)
    return given


def json_or_text(text: str) -> Any:
    """The JSON value that the text is, else the text; NaN and Infinity are no JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
