"""CSV as spreadsheets write it: the header tells the separator, trailing empty columns are dropped, TRUE is true."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from jobs.errors import Problem
from jobs.prompts_file.columns import Columns
from jobs.prompts_file.text_lines import MAX_LINE, Unreadable, is_blank, text_of

SPECIAL = ("id", "custom_id", "model")
"""The columns that are no inputs."""

_JSON_SCALAR = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>[^\w"])"?[;,\t ]*', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_FAULTS = (
    ("unexpected end of data", "a quote is opened and never closed"),
    ("expected after", "text follows a closing quote; a quote inside a cell is written twice"),
    ("new-line character", "a cell without quotes contains a carriage return"),
    ("field larger", f"a cell is longer than {MAX_LINE:,} bytes: is a quote never closed?"),
)
"""Messages of the csv module, and what people read instead."""

Lines = Iterator[tuple[int, bytes | Problem]]


class Table:
    """The rows of a CSV file, as in JSON Lines; without a separator it is seen in the header."""

    def __init__(self, lines: Lines, columns: Columns, separator: str | None = None) -> None:
        self._texts = _decode(lines)
        self._skipped = 0
        self._columns = columns
        self._header: list[str] = []
        self._names: list[str] = []
        self._fixed, self._separator = separator, ","

    def rows(self) -> Iterator[tuple[int, Any | Problem, dict[str, str]]]:
        """Yield the line and the row of each record, or what is wrong with it, and the cells of its input.

        Unreadable at the first line that breaks the format: what follows cannot be split into rows.
        """
        csv.field_size_limit(MAX_LINE)
        if (first := self._first_line()) is None:
            return
        reader = csv.reader(chain([first], self._texts), strict=True, delimiter=self._separator)
        ended = self._skipped
        try:
            self._header = _check_header(next(reader), ended + 1)
            self._names = self._renamed(ended + 1)
            ended = self._skipped + reader.line_num
            for cells in reader:
                begins, ended = ended + 1, self._skipped + reader.line_num
                if not all(map(is_blank, cells)):
                    yield begins, *self._row(begins, cells)
        except csv.Error as error:
            reason = next((plain for own, plain in _FAULTS if own in str(error)), "a line cannot be split into cells")
            raise Unreadable(Problem(ended + 1, f"not CSV: {reason}")) from None

    def _renamed(self, line: int) -> list[str]:
        try:
            return self._columns.rename_all(self._header)
        except ValueError as error:
            raise Unreadable(Problem(line, str(error))) from None

    def _first_line(self) -> str | None:
        """The line with the header; one before it may name the separator, as Excel writes it."""
        named = None
        for text in self._texts:
            if found := _SEPARATOR_LINE.fullmatch(text.rstrip("\r\n")):
                named = found["separator"]
            elif text.strip(" \t\r\n,;"):
                self._separator = named or self._fixed or max(",;\t", key=_QUOTED.sub("", text).count)
                return text
            self._skipped += 1
        return None

    def _row(self, line: int, cells: list[str]) -> tuple[Any | Problem, dict[str, str]]:
        header = self._header
        if all(map(is_blank, cells[len(header) :])):
            cells = cells[: len(header)]
        if problem := self._problem(line, cells):
            return problem, {}
        given = {name: cell for name, cell in zip(self._names, cells, strict=True) if name and not is_blank(cell)}
        row: dict[str, Any] = {name: given.pop(name) for name in SPECIAL if name in given}
        return row | {"input": {name: _value(name, cell) for name, cell in given.items()}}, given

    def _problem(self, line: int, cells: list[str]) -> Problem | None:
        header = self._header
        if len(cells) != len(header):
            more = (
                f"; put text that contains {_separator_name(self._separator)} in quotes"
                if len(cells) > len(header)
                else ""
            )
            return Problem(line, f"{len(cells)} cells where the header has {len(header)} columns{more}")
        if [cell.strip() for cell in cells] == header:
            return Problem(line, "this is the header again: were files joined? Remove the line")
        if any("\ufeff" in cell for cell in cells):
            return Problem(line, "a byte order mark stands in a cell: files were joined without a line end")
        return None


def _separator_name(separator: str) -> str:
    return {"\t": "a tab", ",": "a comma", ";": "a semicolon"}.get(separator, repr(separator))


def _decode(lines: Lines) -> Iterator[str]:
    for number, line in lines:
        if isinstance(text := text_of(number, line), Problem):
            raise Unreadable(text)
        yield text + "\n"


def _check_header(cells: list[str], line: int) -> list[str]:
    header = [name.strip() for name in cells]
    while header and not header[-1]:
        header.pop()
    twice = [name for name in header if header.count(name) > 1]
    if not all(header) or not header:
        raise Unreadable(Problem(line, f"column {[*header, ''].index('') + 1} has no name"))
    if header[0].startswith(("{", "[")):
        raise Unreadable(Problem(line, "this is JSON, not the header of a table: name the file .jsonl"))
    if twice:
        raise Unreadable(Problem(line, f"the column {twice[0]!r} is there twice"))
    return header


def _value(name: str, cell: str) -> Any:
    """A JSON number, true or false becomes that value; all else, and a prompt in any case, is text."""
    bare = cell.strip()
    if name == "prompt" or len(bare) > 300:
        return cell
    if bare in _TRUTH:
        return _TRUTH[bare]
    if not _JSON_SCALAR.fullmatch(bare):
        return cell
    value = json.loads(bare)
    return cell if value in (float("inf"), float("-inf")) else value
