"""The check of a row against its model, before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orjson import loads

from jobs.catalog.cells import read_cells
from jobs.catalog.input_schema import InputSchema
from jobs.catalog.mistakes import Mistake, Mistakes, literal_secrets, unknown_keys, wrong_values
from jobs.catalog.model import Missing, Model
from jobs.prompts_file.reader import Row, row_text

MOST_TOLD = 20
"""Keys and models that a receipt warns of."""


class RowCheck:
    """Checks rows against the models in `models`, which has those of each row that it is given."""

    def __init__(self, models: Mapping[str, Model | Missing], *, allow_unknown: bool = False) -> None:
        self._models, self._allow_unknown = models, allow_unknown
        self.mistakes = Mistakes()
        self.ignored = Mistakes()
        """Unknown keys that are allowed."""
        self._unchecked: dict[str, tuple[int, int]] = {}

    def check(self, row: Row) -> Row | None:
        """Return the row as the batch keeps it: its cells read, its version pinned; None when it has a mistake."""
        model = self._models[row.model]
        if isinstance(model, Missing):
            meant = f"; did you mean {model.instead}?" if model.instead else ""
            self.mistakes.add(row.line, [Mistake((model.name,), f"{model.name}: {model.reason}{meant}")])
            return None
        if (schema := model.input) is None:
            line, count = self._unchecked.get(model.name, (row.line, 0))
            self._unchecked[model.name] = line, count + 1
            return self.as_kept(row, model)
        row = _with_cells(row, schema)
        return pinned(row, model) if self._is_right(row, schema) else None

    def as_kept(self, row: Row, model: Model | None) -> Row:
        """The same without a check: for a model that the batch's folder knows, or does not."""
        if model is None:
            return row
        return pinned(_with_cells(row, model.input) if model.input else row, model)

    def _is_right(self, row: Row, schema: InputSchema) -> bool:
        values = loads(row.text)["input"]
        known = schema.known.issuperset(values) or schema.takes_any_key
        if known and schema.is_valid(values) and schema.secrets.isdisjoint(values):
            return True
        if not known:
            (self.ignored if self._allow_unknown else self.mistakes).add(
                row.line, unknown_keys(row.model, schema, values)
            )
        before = self.mistakes.count
        self.mistakes.add(row.line, literal_secrets(row.model, schema, values))
        self.mistakes.add(row.line, wrong_values(row.model, schema, values))
        return self.mistakes.count == before and (known or self._allow_unknown)

    @property
    def known_keys(self) -> frozenset[str]:
        """The keys of all models that rows are checked against."""
        schemas = (model.input for model in self._models.values() if isinstance(model, Model))
        return frozenset[str]().union(*(schema.known for schema in schemas if schema))

    def warnings(self) -> list[str]:
        """What was not checked, and which keys will be ignored."""
        told = [
            f"line {line}{_others(count)}: not checked against {name}: {self._reason(name)}"
            for name, (line, count) in self._unchecked.items()
        ]
        told += [f"{problem}, and will be ignored" for problem in self.ignored.problems()]
        more = len(told) - MOST_TOLD
        return told if more <= 0 else [*told[:MOST_TOLD], f"and {more} more of this kind"]

    def _reason(self, name: str) -> str:
        model = self._models[name]
        return (model.unchecked if isinstance(model, Model) else None) or ""


def _others(count: int) -> str:
    return f" and {count - 1:,} more" if count > 1 else ""


def pinned(row: Row, model: Model) -> Row:
    """The row with its model as the batch names it."""
    if model.pinned == row.model:
        return row
    return row._replace(model=model.pinned, text=pinned_text(row.text, model.name, model.pinned))


def pinned_text(text: bytes, name: str, version: str) -> bytes:
    """A row's text with the model as the batch names it: the text is canonical, so that the model is its last key."""
    tail = b'"model":"%s"}' % name.encode()
    return text[: -len(tail)] + b'"model":"%s"}' % version.encode() if text.endswith(tail) else text


def _with_cells(row: Row, schema: InputSchema) -> Row:
    if not row.cells:
        return row
    guessed: dict[str, Any] = json.loads(row.text)["input"]
    values = read_cells(row.cells, guessed, schema)
    return row._replace(text=row_text(row.id, row.model, values))
