"""Cells of a table have no types: each is read as what its key's schema wants.

Without a schema `prompts_file/csv_rows` guesses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jobs.catalog.input_schema import TYPES, InputSchema, types_of

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_TRUTH = {"true": True, "false": False}


def read_cells(cells: Mapping[str, str], guessed: Mapping[str, Any], schema: InputSchema) -> dict[str, Any]:
    """The values of a row's input; what fits no type that its key may have stays as it was guessed."""
    return {
        name: read_cell(cells[name], guess, schema.properties.get(name)) if name in cells else guess
        for name, guess in guessed.items()
    }


def read_cell(text: str, guess: Any, schema: Any) -> Any:
    """The value of one cell by the schema of its key."""
    types = types_of(schema)
    if types == TYPES:
        return guess
    bare = text.strip()
    for option in _options(schema):
        if option == bare or _number_or_text(bare) == option:
            return option
    for kind, read in _READERS.items():
        if kind in types and (value := read(bare)) is not None:
            return value
    if "string" in types:
        return text
    return None if "null" in types and bare.casefold() == "null" else guess


def _options(schema: Any) -> list[Any]:
    options = schema.get("enum") if isinstance(schema, dict) else None
    return [one for one in options if not isinstance(one, bool)] if isinstance(options, list) else []


def _number_or_text(bare: str) -> Any:
    return bare if (number := _number(bare)) is None else number


def _boolean(bare: str) -> bool | None:
    return _TRUTH.get(bare.casefold())


def _integer(bare: str) -> int | None:
    number = _number(bare)
    return int(number) if number is not None and number == int(number) else None


def _number(bare: str) -> float | int | None:
    if len(bare) > 300 or not _NUMBER.fullmatch(bare):
        return None
    if bare.lstrip("+-").isdecimal():
        return int(bare)
    number = float(bare)
    return number if abs(number) != float("inf") else None


def _json(kind: type) -> Callable[[str], Any]:
    def read(bare: str) -> Any:
        try:
            value = json.loads(bare, parse_constant=_no_constant) if bare[:1] in "[{" else None
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, kind) else None

    return read


def _no_constant(name: str) -> None:
    raise ValueError(name)


_READERS: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _json(list),
    "object": _json(dict),
}
