"""Where something stands in a TOML file, as tomllib tells no lines, and what is wrong with a value there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from jobs.errors import Problem

Path = tuple[str | int, ...]
"""Of keys and places in arrays, such as `("schedule", 2, "cron")`."""


def syntax_problem(error: Exception, text: str) -> Problem:
    """What tomllib says of a text that it cannot read, with the line."""
    if isinstance(error, RecursionError):
        return Problem(0, "nested too deep")
    message, _, place = str(error).partition(" (at ")
    if line := re.match(r"line (\d+)", place):
        return Problem(int(line[1]), message)
    return Problem(text.count("\n") + 1 if place else 0, message)


Rule = tuple[type, Callable[[Any], Any]]
"""The type of a key's value, and what raises ValueError for a wrong one."""


def value_problem(key: str, value: Any, rule: Rule, types: Mapping[type, str]) -> str | None:
    """What is wrong with the value of a key, if anything; `types` are the types in words."""
    expected, check = rule
    if type(value) is not expected and not (expected is float and type(value) is int):
        return f"{key} must be {types[expected]}"
    try:
        check(value)
    except ValueError as error:
        return f"{key}: {error}"
    return None


def find_lines(text: str, table: str) -> dict[Path, int]:
    """Find the line that completes each key, from 1: the first at which the text up to there has it.

    The text consists of `[[table]]`s; to spare time each one's lines are read from its header on.
    """
    lines, found = text.replace("\r\n", "\n").split("\n"), dict[Path, int]()
    start = before = 0
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[start:end]))
        except (ValueError, RecursionError):
            continue
        tables = document.pop(table, [])
        is_array = isinstance(tables, list)
        for path in (*_paths(document, ()), (table,)):
            found.setdefault(path, end)
        for number, each in enumerate(tables if is_array else (), before):
            for path in ((table, number), *_paths(each, (table, number))):
                found.setdefault(path, end)
        if is_array and len(tables) > 1 and lines[end - 1].lstrip().startswith("[["):
            start, before = end - 1, before + len(tables) - 1
    return found


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, else of what it is in; 0 when nothing is known."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _paths(value: Any, path: Path) -> list[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in items for found in ((*path, key), *_paths(each, (*path, key)))]
