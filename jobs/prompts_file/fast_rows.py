"""A row of a prompts file as it will be stored, and a fast reader of plain rows of JSON Lines, at 3 µs each.

Any other row is left to `reader`, which is strict and says what is wrong: orjson accepts duplicate keys, and rounds
integers beyond 64 bits to floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orjson import OPT_SORT_KEYS, dumps, loads

from jobs.input_files.path_texts import may_name_file
from jobs.names import is_prompt_id, model_problem
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.text_lines import MAX_LINE
from jobs.secret_inputs import KEY as SECRET

_NO_PATH = ("https://", "data:")
_ODD = frozenset(("custom_id", "body", "method", "url"))


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
    """Reads plain rows: valid ones of text, numbers, true, false and null, not nested."""

    def __init__(self, defaults: Defaults, names: KeyNames) -> None:
        self._model, self._input, self._names = defaults.model, defaults.input, names
        self._known = names.known
        self._is_text = "\\x00" not in repr(defaults.input)

    def read(self, line: bytes, number: int) -> Row | None:
        """Return the row in a line; None when it is not plain."""
        try:
            row = loads(line)
            if type(row) is not dict or _needs_strict_reader(line, row) or not self._is_text:
                return None
            return self._row(row, number)
        except (ValueError, TypeError):  # from orjson, and for names that are not text
            return None

    def read_values(self, row: dict[str, Any], number: int) -> Row | None:
        """Return the row that these values are, which are taken out of it; None when it is not plain."""
        try:
            found = self._row(row, number)
        except (ValueError, TypeError):
            return None
        return None if found is None or b"\\u0000" in found.text else found

    def _row(self, row: dict[str, Any], number: int) -> Row | None:
        prompt_id = row.pop("id") if "id" in row else f"{number:06d}"
        model = row.pop("model", self._model)
        values = self._values(row)
        if values is None or not _are_names(prompt_id, model) or not _are_plain(values):
            return None
        text = dumps({"id": prompt_id, "input": values, "model": model}, option=OPT_SORT_KEYS)
        if not self._known.issuperset(values):
            self._names.note(values, number)
        return Row(number, prompt_id, model, text) if len(text) <= MAX_LINE else None

    def _values(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The input in what is left of a row without id and model."""
        short = "input" not in row
        values = row if short else row.pop("input")
        if type(values) is not dict or SECRET in values or not (_ODD.isdisjoint(row) if short else not row):
            return None
        if self._input:
            values = self._input | values
        return None if short and "prompt" not in values else values


def _needs_strict_reader(line: bytes, row: dict[str, Any]) -> bool:
    """Whether a key may be duplicated, or a string may hold NUL.

    A duplicate shows by its quotes: what was read has fewer than the line, escaped ones included.
    """
    return line.count(b'"') != dumps(row).count(b'"') or (b"\\" in line and (b"\\u0022" in line or b"\\u0000" in line))


def _are_names(prompt_id: Any, model: Any) -> bool:
    """Whether these are valid names; TypeError when one is not text."""
    return is_prompt_id(prompt_id) and model_problem(model) is None


def _are_plain(values: dict[str, Any]) -> bool:
    """Whether none is nested, a path, or a number that orjson may have rounded or does not write as Python does."""
    for key, value in values.items():
        kind = type(value)
        if kind is str:
            if (
                key != "prompt"
                and ("/" in value or "." in value or "\\" in value or "@" in value)
                and not value.startswith(_NO_PATH)
                and may_name_file(f"input.{key}", value)
            ):
                return False
        elif kind is float:
            if value and not 1e-4 <= abs(value) < 1e16:
                return False
        elif kind is dict or kind is list:
            return False
    return True
