"""The check of a row against its model, before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orjson import loads

from jobs.catalog.cells import read_cells
from jobs.catalog.input_schema import InputSchema
from jobs.catalog.mistakes import Mistake, Mistakes, literal_secrets, shown_secret, unknown_keys, wrong_values
from jobs.catalog.model import Missing, Model
from jobs.input_files.reference import FileReference, with_files
from jobs.input_files.resolver import FileResolver
from jobs.prompts_file.formats import MAX_LINE
from jobs.prompts_file.reader import Row, row_text
from jobs.secret_inputs import with_literals, without_keys

MOST_TOLD = 20
"""Keys and models that a receipt warns of."""


class CheckedRow(NamedTuple):
    """A row as the batch keeps it, and its text before its cells were read by a schema and its version was pinned."""

    row: Row
    written: bytes


class RowCheck:
    """Checks rows against the models in `models`, which has those of each row that it is given.

    The files that rows name become references; `files` finds them, by default from the current folder.
    """

    def __init__(
        self,
        models: Mapping[str, Model | Missing],
        files: FileResolver | None = None,
        *,
        allow_unknown: bool = False,
        allow_literal_secrets: bool = False,
    ) -> None:
        self._models, self._allow_unknown, self._allow_secrets = models, allow_unknown, allow_literal_secrets
        self._files = files or FileResolver(Path())
        self.mistakes = Mistakes()
        self.ignored = Mistakes()
        """Unknown keys that are allowed."""
        self._unchecked: dict[str, tuple[int, int]] = {}

    def check_all(self, rows: list[Row]) -> list[CheckedRow]:
        """Return the rows without mistakes as the batch keeps them; those of a model are first checked together."""
        right = {name: model for name in {row.model for row in rows} if (model := self._all_right(name, rows))}
        found = (_as_right(row, right[row.model]) if row.model in right else self.check(row) for row in rows)
        return [checked for checked in found if checked]

    def _all_right(self, name: str, rows: list[Row]) -> Model | None:
        """The model of that name if no row of it can have a mistake, or anything that is to be read by its schema."""
        model = self._models[name]
        if not isinstance(model, Model) or model.input is None:
            return None
        own = [row for row in rows if row.model == name]
        if any(row.cells or row.names_files for row in own):
            return None
        inputs = [row["input"] for row in loads(b"[%s]" % b",".join([row.text for row in own]))]
        return model if model.input.are_surely_right(inputs) else None

    def check(self, row: Row) -> CheckedRow | None:
        """Return the row as the batch keeps it: its cells read, its version pinned; None when it has a mistake."""
        model = self._models[row.model]
        if isinstance(model, Missing):
            self.mistakes.add(row.line, [Mistake((model.name,), model.sentence)])
            return None
        if (schema := model.input) is None:
            line, count = self._unchecked.get(model.name, (row.line, 0))
            self._unchecked[model.name] = line, count + 1
            return self.as_kept(row, model)
        if not row.names_files and _is_right(kept := _with_cells(row, schema), schema):
            return CheckedRow(pinned(kept, model), row.text)
        before = self.mistakes.count
        checked = self._with_all_files(row, schema)
        self._add_mistakes(checked.row, schema)
        if self.mistakes.count > before:
            return None
        return self._kept(checked, schema, model)

    def as_kept(self, row: Row, model: Model | None) -> CheckedRow | None:
        """The same without a check, but for files: for a model that the batch's folder knows, or does not."""
        before, schema = self.mistakes.count, model.input if model else None
        if row.names_files:
            checked = self._with_all_files(row, schema)
        else:
            checked = CheckedRow(_with_cells(row, schema) if schema else row, row.text)
        if self.mistakes.count > before:
            return None
        return self._kept(checked, schema, model) if model else checked

    def _kept(self, checked: CheckedRow, schema: InputSchema | None, model: Model) -> CheckedRow | None:
        """The row with its literal secrets marked and its version pinned; None when its id shows a secret."""
        marked = _marked(checked.row, schema) if schema else None
        if marked is None:
            return checked._replace(row=pinned(checked.row, model))
        row = checked.row
        if mistake := shown_secret(row.model, row.id, marked):
            self.mistakes.add(row.line, [mistake])
            return None
        return checked._replace(row=pinned(row._replace(text=row_text(row.id, row.model, marked)), model))

    def _with_all_files(self, row: Row, schema: InputSchema | None) -> CheckedRow:
        """The row with its cells read, and references to files in its values and in its cells."""
        written = self._with_files(row, schema) if row.names_files else row
        kept = self._with_files(_with_cells(written, schema), schema) if schema else written
        return CheckedRow(kept, written.text)

    def _with_files(self, row: Row, schema: InputSchema | None) -> Row:
        values: dict[str, Any] = json.loads(row.text)["input"]
        secret = schema.secrets if schema else ()  # a secret is never a path, and no message shows it
        found, problems = self._files.resolve(without_keys(values, secret), schema.properties if schema else {})
        found = values | found
        self.mistakes.add(row.line, (Mistake(("file", *kind), message) for kind, message in problems))
        if found == values:
            return row
        text = row_text(row.id, row.model, found)
        if len(text) > MAX_LINE:
            size = f"the row is larger than {MAX_LINE:,} bytes with the paths and hashes of its files"
            self.mistakes.add(row.line, [Mistake(("size",), size)])
        left = {key: cell for key, cell in (row.cells or {}).items() if found[key] == values[key]}
        return row._replace(text=text, cells=left)

    def _add_mistakes(self, row: Row, schema: InputSchema) -> None:
        """Note everything that the schema forbids; a reference stands for a URL."""
        shown: dict[str, str] = {}

        def as_url(file: FileReference) -> str:
            url = f"https://files.invalid/{len(shown):05}"
            shown[url] = f"@{file.path}"
            return url

        values = with_files(loads(row.text)["input"], as_url)
        if not (schema.known.issuperset(values) or schema.takes_any_key):
            unknown = self.ignored if self._allow_unknown else self.mistakes
            unknown.add(row.line, unknown_keys(row.model, schema, values))
        secrets = () if self._allow_secrets else literal_secrets(row.model, schema, values)
        for mistake in (*secrets, *wrong_values(row.model, schema, values)):
            message = mistake.message
            for url, path in shown.items():
                message = message.replace(url, path)
            self.mistakes.add(row.line, [mistake._replace(message=message)])

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


def _as_right(row: Row, model: Model) -> CheckedRow:
    return CheckedRow(pinned(row, model), row.text)


def _is_right(row: Row, schema: InputSchema) -> bool:
    values = loads(row.text)["input"]
    known = schema.known.issuperset(values) or schema.takes_any_key
    return known and schema.is_valid(values) and schema.secrets.isdisjoint(values)


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


def _marked(row: Row, schema: InputSchema) -> dict[str, Any] | None:
    """The input with its literal secrets marked, so that they are masked and never compared; None when it has none."""
    if not schema.secrets or schema.secrets.isdisjoint(loads(row.text)["input"]):
        return None
    values: dict[str, Any] = json.loads(row.text)["input"]  # exact, also where numbers have more than 64 bits
    marked = with_literals(values, schema.secrets)
    return None if marked == values else marked


def _with_cells(row: Row, schema: InputSchema) -> Row:
    if not row.cells:
        return row
    guessed: dict[str, Any] = json.loads(row.text)["input"]
    values = read_cells(row.cells, guessed, schema)
    return row._replace(text=row_text(row.id, row.model, values))
