"""A row of a prompts file as it will be stored, and a fast reader of plain rows of JSON Lines: many lines at once.

Any other row is left to `reader`, which is strict and says what is wrong: orjson accepts duplicate keys, and rounds
integers beyond 64 bits to floats.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from orjson import OPT_SORT_KEYS, dumps, loads

from jobs.errors import Problem
from jobs.input_files.path_texts import may_name_file
from jobs.names import is_prompt_id, model_problem
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.text_lines import MAX_LINE
from jobs.secret_inputs import KEY as SECRET

_BETWEEN = b"7c9e2d51-between-two-lines"
"""A text that stands between the lines of a block. If it comes in none of them, each line is a value by itself."""

_NO_PATH = ("https://", "data:")
_PATH_SIGNS = frozenset("/.\\@")
_ALWAYS_PLAIN = frozenset((int, bool, type(None)))
_LONG_FORM = ("input",)
_ODD = frozenset(("input", "custom_id", "body", "method", "url"))
_IDS = re.compile(r"[A-Za-z0-9_-]{1,128}(\n[A-Za-z0-9_-]{1,128})*")
"""Ids without a dot, which may be anything but too long."""

T = TypeVar("T")


class Row(NamedTuple):
    """A valid row: its line in the file, id, model, and line in the batch's copy (canonical JSON, no newline).

    `cells` are the texts of input values that have no type in their source: what `text` has in their place is a guess.
    `names_files`: some of its values may name local files.
    """

    line: int
    id: str
    model: str
    text: bytes
    cells: Mapping[str, str] | None = None
    names_files: bool = False


@dataclass(frozen=True)
class Defaults:
    """Model and input of rows that lack them; the row wins."""

    model: str | None = None
    input: dict[str, Any] = field(default_factory=dict)


class PlainRows:
    """Reads plain rows, many at once: valid ones of text, numbers, true, false and null, not nested."""

    def __init__(self, defaults: Defaults, names: KeyNames) -> None:
        self._model, self._input, self._names = defaults.model, defaults.input, names
        self._is_text = "\\x00" not in repr(defaults.input)

    def read(self, lines: Sequence[bytes | Problem], first: int) -> list[Row | None]:
        """Return the row of each of consecutive lines; None for each that is not plain."""
        if (rows := self._read_together(lines, first)) is not None:
            return rows
        half = len(lines) // 2
        return [*self.read(lines[:half], first), *self.read(lines[half:], first + half)] if half else [None]

    def read_values(self, row: dict[str, Any], number: int) -> Row | None:
        """Return the row that these values are, which are taken out of it; None when it is not plain."""
        try:
            (found,) = self._rows([row], number)
        except (ValueError, TypeError):
            return None
        return None if found is None or b"\\u0000" in found.text else found

    def _read_together(self, lines: Sequence[bytes | Problem], first: int) -> list[Row | None] | None:
        """The rows; None when a line is not JSON, may have what orjson does not tell, or is very odd."""
        try:
            values = _parse([line if isinstance(line, bytes) else b"" for line in lines])
            return self._rows(values, first) if values and self._is_text else None
        except (ValueError, TypeError):  # from orjson, and for what should be an object or text
            return None

    def _rows(self, values: list[dict[str, Any]], first: int) -> list[Row | None]:
        if set(map(type, values)) != {dict}:
            raise TypeError("a row is not an object")
        ids = [row.pop("id") if "id" in row else f"{number:06d}" for number, row in enumerate(values, first)]
        models = [row.pop("model", self._model) for row in values]
        shapes = list(map(tuple, values))
        inputs = [row["input"] if shape == _LONG_FORM else row for row, shape in zip(values, shapes, strict=True)]
        if set(map(type, inputs)) != {dict}:
            raise TypeError("an input is not an object")
        if self._input:
            inputs = [self._input | given for given in inputs]
        by_keys = _group(list(map(tuple, inputs)))
        odd = _wrong_ids(ids) | _places(models, _is_wrong_model) | _places(shapes, self._is_odd_shape)
        for keys, places in by_keys.items():
            odd |= _odd_values(keys, [inputs[place] for place in places], places)
        self._note_keys(by_keys, odd, first)
        plain = [place for place in range(len(values)) if place not in odd] if odd else range(len(values))
        texts = _texts([{"id": ids[place], "input": inputs[place], "model": models[place]} for place in plain])
        found: list[Row | None] = [None] * len(values)
        for place, text in zip(plain, texts, strict=True):
            if len(text) <= MAX_LINE:
                found[place] = Row(first + place, ids[place], models[place], text)
        return found

    def _is_odd_shape(self, keys: tuple[str, ...]) -> bool:
        """Whether a row, without id and model, may be wrong by its keys."""
        if keys == _LONG_FORM:
            return False
        return not _ODD.isdisjoint(keys) or ("prompt" not in keys and "prompt" not in self._input)

    def _note_keys(self, by_keys: dict[tuple[str, ...], Sequence[int]], odd: set[int], first: int) -> None:
        for keys, places in by_keys.items():
            if not self._names.known.issuperset(keys):
                plain = next((place for place in places if place not in odd), None)
                if plain is not None:
                    self._names.note(keys, first + plain)


def _parse(lines: list[bytes]) -> list[Any] | None:
    """The value of each line; None when a key may be duplicated, or a string may hold NUL. ValueError.

    A duplicate shows by its quotes: what was read has fewer than the lines, escaped ones included.
    """
    text = b"[%s]" % (b',"%s",' % _BETWEEN).join(lines)
    found = loads(text)
    between = [_BETWEEN.decode()] * (len(lines) - 1)
    if text.count(_BETWEEN) != len(between) or found[1::2] != between or len(found) != 2 * len(lines) - 1:
        return None
    if text.count(b'"') != dumps(found).count(b'"') or (b"\\" in text and (b"\\u0022" in text or b"\\u0000" in text)):
        return None
    values: list[Any] = found[::2]
    return values


def _texts(rows: list[dict[str, Any]]) -> list[bytes]:
    """The line of each row in the batch's copy. Only between two of them, which are not nested, stands what is cut."""
    text = dumps(rows, option=OPT_SORT_KEYS)[1:-1]
    return text.replace(b'},{"id":"', b'}\n{"id":"').split(b"\n") if rows else []


def _group(items: list[T]) -> dict[T, Sequence[int]]:
    """The places of each of the different items, which mostly are all equal."""
    if len(set(items)) == 1:
        return {items[0]: range(len(items))}
    found = defaultdict[T, list[int]](list)
    for place, item in enumerate(items):
        found[item].append(place)
    return dict(found)


def _places(items: list[T], is_wrong: Callable[[T], bool]) -> set[int]:
    """The places of the items that are wrong, of which few differ."""
    wrong = set(filter(is_wrong, set(items)))
    return {place for place, item in enumerate(items) if item in wrong} if wrong else set()


def _wrong_ids(ids: list[Any]) -> set[int]:
    """The places of those that are no prompt's id; TypeError when one is not text."""
    text = "\n".join(ids)
    if "." not in text and _IDS.fullmatch(text):
        return set()
    return {place for place, one in enumerate(ids) if not is_prompt_id(one)}


def _is_wrong_model(model: Any) -> bool:
    return type(model) is not str or model_problem(model) is not None


def _odd_values(keys: tuple[str, ...], inputs: list[dict[str, Any]], places: Sequence[int]) -> set[int]:
    """The places of inputs with a value that is not plain; all have the same keys."""
    if SECRET in keys:
        return set(places)
    odd = set[int]()
    for key in keys:
        values = [given[key] for given in inputs]
        if not _are_surely_plain(key, values):
            odd.update(place for place, value in zip(places, values, strict=True) if not _is_plain(key, value))
    return odd


def _are_surely_plain(key: str, values: list[Any]) -> bool:
    kinds = set(map(type, values))
    if kinds == {str}:
        return key == "prompt" or _PATH_SIGNS.isdisjoint("".join(values))
    return kinds <= _ALWAYS_PLAIN


def _is_plain(key: str, value: Any) -> bool:
    """Whether a value is not nested, a path, or a number that orjson may have rounded or does not write as Python."""
    kind = type(value)
    if kind is str:
        return (
            key == "prompt"
            or _PATH_SIGNS.isdisjoint(value)
            or value.startswith(_NO_PATH)
            or not may_name_file(f"input.{key}", value)
        )
    if kind is float:
        return not value or 1e-4 <= abs(value) < 1e16
    return kind in _ALWAYS_PLAIN
