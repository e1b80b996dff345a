"""Reads a prompts file: every row as it will be stored, or everything that is wrong, line by line."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, TypeGuard

from jobs.errors import Problem
from jobs.expansion.expansion import Expansion, Variant
from jobs.expansion.template import TemplateError
from jobs.input_files.path_texts import may_name_file, with_own_id
from jobs.input_files.reference import KEY as FILE
from jobs.names import model_problem, name_problem
from jobs.prompts_file.columns import Columns
from jobs.prompts_file.fast_rows import Defaults, PlainRows, Row
from jobs.prompts_file.formats import MAX_LINE, Record, read_records
from jobs.prompts_file.key_names import KeyNames, usual_name
from jobs.secret_inputs import KEY as SECRET
from jobs.secret_inputs import LITERAL, reference_problem

__all__ = ["Defaults", "Ids", "Row", "read_prompts", "row_text"]

MAX_DEPTH = 100
"""How deep an input may nest: a worker must be able to read it inside a shard."""

_FOREIGN = ("body", "method", "url")
_LONG_FORM = frozenset(("id", "custom_id", "model", "input"))
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class Ids:
    """The ids of a file in order: two that differ only in case are the same."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._lines = array("L")

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, prompt_id: str, line: int) -> int | None:
        """Add the next id; if it was there already, do not, and return its first line."""
        lines = self._lines
        next_place = len(lines)
        place = self._places.setdefault(prompt_id.lower(), next_place)
        if place != next_place:
            return lines[place]
        lines.append(line)
        return None

    def add_all(self, rows: Sequence[Row]) -> bool:
        """Add the ids of rows, unless one of them is there already or comes twice; returns whether it did."""
        ids = [row.id.lower() for row in rows]
        if len(set(ids)) < len(ids) or not self._places.keys().isdisjoint(ids):
            return False
        self._places.update(zip(ids, count(len(self)), strict=False))
        self._lines.extend([row.line for row in rows])
        return True

    def find(self, prompt_id: str) -> int | None:
        """The place of an id from 0, None when it is not there."""
        return self._places.get(prompt_id.lower())

    def line(self, place: int) -> int:
        """The line of the id at a place."""
        return self._lines[place]


class _RowError(Exception):
    """Something is wrong with a row."""


def read_prompts(
    source: str | Iterable[Record],
    defaults: Defaults,
    ids: Ids,
    names: KeyNames | None = None,
    expansion: Expansion | None = None,
) -> Iterator[Sequence[Row | Problem]]:
    """Yield the valid rows, noting their ids in `ids`, and the problems, one or many at once.

    InputError when the file cannot be opened. The keys of inputs are noted in `names`. By an expansion a row of the
    file becomes many.
    """
    if defaults.model is not None and (problem := model_problem(defaults.model)):
        yield [Problem(0, f"--model or BATCH_MODEL: {problem}")]
        return
    names = names or KeyNames()
    found = _Variants(expansion, defaults, names).rows(source) if expansion else _rows(defaults, names, source)
    empty = True
    for rows in _with_own_ids(found, ids, are_variants=expansion is not None):
        empty = empty and not rows
        yield rows
    if empty:
        yield [Problem(0, "there is no prompt in it")]


def _with_own_ids(
    found: Iterable[Sequence[Row | Problem]], ids: Ids, *, are_variants: bool
) -> Iterator[Sequence[Row | Problem]]:
    """Note the ids; a row whose id is another's is a problem, but several variants of a row are the same one."""
    repeated = None
    for rows in found:
        if _are_rows(rows) and ids.add_all(rows):
            yield rows
            continue
        kept: list[Row | Problem] = []
        for row in rows:
            if isinstance(row, Problem) or (first := ids.add(row.id, row.line)) is None:
                kept.append(row)
            elif (row.line, first) != repeated:
                kept.append(Problem(row.line, f"the id {row.id!r} is that of line {first} already"))
                repeated = (row.line, first) if are_variants else None  # all variants of a row may be there already
        yield kept


def _are_rows(rows: Sequence[object]) -> TypeGuard[Sequence[Row]]:
    return set(map(type, rows)) == {Row}


def _rows(defaults: Defaults, names: KeyNames, source: str | Iterable[Record]) -> Iterator[Sequence[Row | Problem]]:
    reader = _Reader(defaults, names)
    for records in read_records(source, PlainRows(defaults, names).read):
        if _are_rows(records):
            yield records
        else:
            yield [
                item for record in records for item in ([record] if isinstance(record, Row) else reader.read(record))
            ]


class _Variants:
    """Reads the variants of each row, as if they stood in the file at its line."""

    def __init__(self, expansion: Expansion, defaults: Defaults, names: KeyNames) -> None:
        self._expansion, self._defaults, self._names = expansion, defaults, names
        filled = Defaults(defaults.model)
        self._plain, self._reader = PlainRows(filled, names), _Reader(filled, names)

    def rows(self, source: str | Iterable[Record]) -> Iterator[Sequence[Row | Problem]]:
        """Yield the variants one by one; what is wrong with several variants of a row is said once."""
        columns = Columns(self._expansion.columns)
        records: Iterator[Sequence[Record]] = read_records(source, columns=columns)
        for record in chain.from_iterable(records):
            self._names.rows += 1
            told = set[str]()
            for item in self._of(record):
                if isinstance(item, Row):
                    yield [item]
                elif item.message not in told:
                    told.add(item.message)
                    yield [item]
        if self._names.rows:
            yield from ([problem] for problem in columns.problems())

    def _of(self, record: Record) -> Iterator[Row | Problem]:
        base, given = self._reader.read_base(record), record.row
        if isinstance(base, Variant) and not isinstance(given, Problem):
            self._names.note_replaced(self._expansion.sets & {*given, *base.input}, record.line)
            base = base._replace(input=self._defaults.input | base.input)
            try:
                for variant in self._expansion.variants(base, record.cells or {}):
                    if "input" not in given and "prompt" not in variant.input:
                        yield Problem(record.line, _explain_no_prompt(variant.input))
                    else:
                        yield from self._row(record, base.id, variant)
            except TemplateError as error:
                yield Problem(record.line, str(error))
        elif not isinstance(base, Variant):
            yield from base

    def _row(self, record: Record, own_id: str, variant: Variant) -> Iterable[Row | Problem]:
        row: dict[str, Any] = {"id": variant.id, "input": variant.input}
        if variant.model is not None:
            row["model"] = variant.model
        cells = _same_cells(record, variant)
        if found := self._plain.read_values(dict(row), record.line):
            return [found._replace(cells=cells)]
        row["input"] = with_own_id(variant.input, own_id)
        return self._reader.read(Record(record.line, record.number, row, cells))


def _same_cells(record: Record, variant: Variant) -> dict[str, str] | None:
    """The cells of a record whose values the variant has: others were written for it."""
    if not record.cells:
        return None
    given, has = _own_input(record), variant.input
    return {key: cell for key, cell in record.cells.items() if key in has and has[key] == given[key]}


class _Reader:
    """Turns records into rows; each part of a row raises its own _RowError."""

    def __init__(self, defaults: Defaults, names: KeyNames) -> None:
        self._defaults, self._names = defaults, names

    def read(self, record: Record) -> list[Row] | list[Problem]:
        """The row, or everything that is wrong with it, except a duplicate id."""
        if isinstance(record.row, Problem):
            return [record.row]
        try:
            return [self._row(record)]
        except _RowError as error:
            return self._problems(record) or [Problem(record.line, str(error))]

    def read_base(self, record: Record) -> Variant | list[Problem]:
        """The row that variants are made of, or what is wrong with it before any is made."""
        if isinstance(record.row, Problem):
            return [record.row]
        try:
            _check_object(record)
            return Variant(self._id(record), record.row.get("model"), _own_input(record))
        except _RowError as error:
            return [Problem(record.line, str(error))]

    def _row(self, record: Record) -> Row:
        _check_object(record)
        prompt_id, model, (values, names_files) = self._id(record), self._model(record), self._input(record)
        if names_files:
            values = with_own_id(values, prompt_id)
        try:
            text = row_text(prompt_id, model, values)
        except UnicodeEncodeError:
            raise _RowError("half a surrogate pair (\\ud800 to \\udfff) is not text") from None
        except ValueError:
            raise _RowError("a number is too large") from None
        if len(text) > MAX_LINE:
            raise _RowError(f"the row is larger than {MAX_LINE:,} bytes; give big files by path or URL")
        self._names.note(values, record.line)
        return Row(record.line, prompt_id, model, text, record.cells, names_files)

    def _problems(self, record: Record) -> list[Problem]:
        """Everything that is wrong with a row, except what only its encoding shows."""
        found = []
        for part in (_check_object,) if not isinstance(record.row, dict) else (self._id, self._model, self._input):
            try:
                part(record)
            except _RowError as error:
                found.append(Problem(record.line, str(error)))
        return found

    def _id(self, record: Record) -> str:
        row: Any = record.row
        if "id" in row and "custom_id" in row:
            raise _RowError("it has both id and custom_id")
        if "id" in row or "custom_id" in row:
            prompt_id = row["id"] if "id" in row else row["custom_id"]
        else:
            prompt_id = f"{record.number:06d}"
        if not isinstance(prompt_id, str):
            raise _RowError("the id is not text: put it in quotes")
        if problem := name_problem(prompt_id, 128):
            raise _RowError(f"the id {problem}")
        return prompt_id

    def _model(self, record: Record) -> str:
        row: Any = record.row
        model = row.get("model", self._defaults.model)
        if model is None:
            raise _RowError("it has no model: add one to the row, or give --model or BATCH_MODEL")
        if not isinstance(model, str):
            raise _RowError("the model is not text")
        if problem := model_problem(model):
            raise _RowError(problem)
        return model

    def _input(self, record: Record) -> tuple[dict[str, Any], bool]:
        """The row's input, and whether it may name local files."""
        row: Any = record.row
        values = _own_input(record)
        if self._defaults.input:
            values = {**self._defaults.input, **values}
        if "input" not in row and "prompt" not in values:
            raise _RowError(_explain_no_prompt(values))
        return values, _check_strings(values)


def _check_strings(values: dict[str, Any]) -> bool:
    """Refuse NUL, wrong references and what is nested too deeply; return whether any string may name a local file."""
    stack: list[tuple[str, Any, int]] = [("input", values, 1)]
    names_files = False
    while stack:
        name, value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise _RowError(f"input is nested deeper than {MAX_DEPTH} levels")
        if type(value) is dict:
            _check_references(name, value, depth)
        for key, item in value.items() if type(value) is dict else enumerate(value):
            if type(key) is str and "\0" in key:
                raise _RowError(f"a key in {name!r} has a NUL character (\\u0000)")
            if type(item) is str:
                names_files = _check_string(f"{name}.{key}", item) or names_files
            elif type(item) is dict or type(item) is list:
                stack.append((f"{name}.{key}", item, depth + 1))
    return names_files


def _check_string(name: str, value: str) -> bool:
    if "\0" in value:
        raise _RowError(f"{name!r} has a NUL character (\\u0000), which is not text")
    return may_name_file(name, value)


def _own_input(record: Record) -> dict[str, Any]:
    row: Any = record.row
    if not _LONG_FORM.issuperset(row):
        _refuse_foreign_keys(row)
    values = row["input"] if "input" in row else {key: row[key] for key in row if key not in _LONG_FORM}
    if not isinstance(values, dict):
        raise _RowError("input is not an object")
    return values


def row_text(prompt_id: str, model: str, values: dict[str, Any]) -> bytes:
    """A row's line in the batch's copy; UnicodeEncodeError, ValueError."""
    return f'{{"id":"{prompt_id}","input":{_encode(values)},"model":"{model}"}}'.encode()


def _explain_no_prompt(values: dict[str, Any]) -> str:
    found = next((key for key in values if usual_name(key) == "prompt"), None)
    caption = next((f"; --map {key}=prompt takes its {key}" for key in ("text", "caption") if key in values), "")
    return "it has neither input nor prompt" + (f": it has {found!r}; is 'prompt' meant?" if found else caption)


def _check_references(name: str, value: dict[str, Any], depth: int) -> None:
    if FILE in value and depth > 1:
        raise _RowError(f'{name!r}: {{"{FILE}": …}} is how a batch keeps a file that it has found; write "@PATH"')
    if LITERAL in value and depth > 1:
        raise _RowError(f'{name!r}: {{"{LITERAL}": …}} is how a batch keeps a secret; write the secret itself')
    if SECRET in value and depth != 2:
        raise _RowError(f'{name!r}: {{"{SECRET}": …}} must be the whole value of one key of the input')
    if SECRET in value and (problem := reference_problem(value)):
        raise _RowError(f"{name!r}: {problem}")


def _refuse_foreign_keys(row: dict[str, Any]) -> None:
    if foreign := [key for key in _FOREIGN if key in row]:
        raise _RowError(
            f"a row with {foreign[0]!r} is in another service's batch format; "
            'write {"id": …, "model": "owner/name", "input": {…}}'
        )
    if "input" in row and (unknown := [key for key in row if key not in _LONG_FORM]):
        raise _RowError(f"unknown key {unknown[0]!r} beside input: only id, custom_id and model may be there")


def _check_object(record: Record) -> None:
    if not isinstance(record.row, dict):
        raise _RowError('a row is an object: {"prompt": …} or {"input": {…}}')
