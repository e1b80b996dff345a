"""What a prompts file says, record by record, whatever its format: JSON Lines, a table or plain text."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from jobs.errors import InputError, Problem
from jobs.prompts_file.arrow_rows import ArrowTable
from jobs.prompts_file.columns import Columns
from jobs.prompts_file.csv_rows import SPECIAL, Table
from jobs.prompts_file.dataset_folder import FILE_NAME, metadata_of, name_by_file
from jobs.prompts_file.file_ids import FileIds
from jobs.prompts_file.text_lines import (
    BLOCK,
    MAX_LINE,
    Unreadable,
    is_blank,
    number_lines,
    number_many,
    read_blocks,
    text_of,
)

__all__ = ["BLOCK", "FORMATS", "MAX_DOCUMENT", "MAX_LINE", "SPECIAL", "Record", "file_format", "read_records"]

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".txt", ".tsv", ".parquet", ".arrow")

_TABLES = {".csv": None, ".tsv": "\t"}
"""Their separators, None for one that is seen in the header."""

MAX_DOCUMENT = 30_000_000
"""Most bytes of JSON that is not JSON Lines, such as an array, which has to be in memory whole."""

_DOCUMENT = re.compile(rb"[ \t\r\n]*(\[|\{[ \t]*[\r\n])")
_BLANK = re.compile(r"[ \t\r\n]*")
_ROW = ("prompt", "input")
_HEADER = re.compile(r'(?=.*\bprompts?\b)"?\w+"?([,;\t]"?\w+"?)*', re.IGNORECASE)

Plain = TypeVar("Plain")
ReadPlain = Callable[[Sequence[bytes | Problem], int], Sequence[Plain | None]]
"""Is given consecutive lines and the number of the first; returns what each is, None where it is not plain."""


class Record(NamedTuple):
    """One record: its physical line and its number (both from 1), and a row as in JSON Lines or what is wrong.

    `cells` are the texts of its input values, in a format that has no types.
    """

    line: int
    number: int
    row: Any | Problem
    cells: Mapping[str, str] | None = None


def file_format(source: str) -> str:
    """Return which of FORMATS a file has by its name; standard input ("-") is JSON Lines. InputError if none."""
    if source == "-":
        return ".jsonl"
    for suffix in FORMATS:
        if source.lower().endswith(suffix):
            return suffix
    raise InputError(f"{source}: the format is not known by its name; it must end in {', '.join(FORMATS)}")


def read_records(
    source: str | Iterable[Record], plain: ReadPlain[Plain] | None = None, columns: Columns | None = None
) -> Iterator[Sequence[Record | Plain]]:
    """Yield the records of a file, of a dataset folder or of standard input ("-"); InputError when it cannot be opened.

    Records that are no file's are yielded as they are. Lines of JSON come many at once, and first go to `plain`: what
    that returns, unless None, takes the record's place.
    """
    if not isinstance(source, str):
        return ([record] for record in source)
    path, columns = metadata_of(source), columns or Columns()
    if path == source:
        return _file_records(path, plain, columns)
    records, key, ids = _file_records(path, None, columns), columns.name_of(FILE_NAME), FileIds()
    return ([record._replace(row=name_by_file(record.row, key, ids)) for record in some] for some in records)


def _file_records(source: str, plain: ReadPlain[Plain] | None, columns: Columns) -> Iterator[Sequence[Record | Plain]]:
    suffix = file_format(source)
    with _opened(source) as stream:
        try:
            if suffix in (".parquet", ".arrow"):
                yield from _one_by_one(_numbered(ArrowTable(Path(source), columns).rows()))
            else:
                yield from _text_file_records(suffix, read_blocks(stream), plain, columns)
        except Unreadable as error:
            line = max(error.problem.line, 1)
            yield [Record(line, 0, Problem(line, f"{error.problem.message}; the rest was not checked"))]


def _text_file_records(
    suffix: str, blocks: Iterator[bytes], plain: ReadPlain[Plain] | None, columns: Columns
) -> Iterator[Sequence[Record | Plain]]:
    if suffix in _TABLES:
        rows = Table(number_lines(blocks), columns, _TABLES[suffix]).rows()
        return _one_by_one(Record(line, number, row, cells) for number, (line, row, cells) in enumerate(rows, 1))
    if suffix == ".txt":
        return _one_by_one(_text_records(blocks))
    if columns:
        records = chain.from_iterable(_json_records(blocks, None))
        return _one_by_one(_renamed(record, columns) for record in records)
    return _json_records(blocks, plain)


def _one_by_one(records: Iterable[Record]) -> Iterator[list[Record]]:
    return ([record] for record in records)


def _numbered(rows: Iterator[tuple[int, Any | Problem]]) -> Iterator[Record]:
    return (Record(line, number, row) for number, (line, row) in enumerate(rows, 1))


def _renamed(record: Record, columns: Columns) -> Record:
    try:
        return record if isinstance(record.row, Problem) else record._replace(row=columns.rename(record.row))
    except ValueError as error:
        return record._replace(row=Problem(record.line, str(error)))


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    path = Path(source)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from None
    zipped = source.lower().endswith(".gz")
    with stream, gzip.GzipFile(fileobj=stream) if zipped else nullcontext(stream) as opened:
        yield cast("BinaryIO", opened)


def _text_records(blocks: Iterator[bytes]) -> Iterator[Record]:
    first = True
    for number, line in number_lines(blocks):
        if isinstance(text := text_of(number, line), Problem):
            yield Record(number, number, text)
        elif not is_blank(text := text.strip()):
            reason = _explain_not_prompt(text, first=first)
            yield Record(number, number, Problem(number, reason) if reason else {"input": {"prompt": text}})
            first = False


def _explain_not_prompt(text: str, *, first: bool) -> str | None:
    """Why a line of a text file is certainly not a prompt, if so."""
    if "\r" in text or "\n" in text:
        return "the line contains a line end of another kind: save the file with one kind, LF or CRLF"
    if "\ufeff" in text:
        return "the line contains a byte order mark: files were joined without a line end"
    if first and _HEADER.fullmatch(text):
        return "this is the header of a table, not a prompt: name the file .csv, or remove the line"
    if first and text.startswith("{") and isinstance(row := _parse(1, text), dict) and not row.keys().isdisjoint(_ROW):
        return "this is JSON, not a prompt: name the file .jsonl"
    return None


def _json_records(blocks: Iterator[bytes], plain: ReadPlain[Plain] | None) -> Iterator[Sequence[Record | Plain]]:
    head = next(blocks, b"")
    blocks = chain(iter([head] if head else []), blocks)  # which frees what was read
    if _DOCUMENT.match(head):
        return _one_by_one(_document_records(blocks))
    return (_line_records(first, lines, plain) for first, lines in number_many(blocks))


def _line_records(first: int, lines: list[bytes | Problem], plain: ReadPlain[Plain] | None) -> list[Record | Plain]:
    found = plain(lines, first) if plain else [None] * len(lines)
    rows: Iterable[Record | Plain | None] = found
    if None in found:
        rows = (
            _line_record(number, line) if row is None else row
            for number, (line, row) in enumerate(zip(lines, found, strict=True), first)
        )
    return [row for row in rows if row is not None]


def _line_record(number: int, line: bytes | Problem) -> Record | None:
    """The record of a line; None when it is blank."""
    if isinstance(text := text_of(number, line), Problem):
        return Record(number, number, text)
    text = text.strip(" \t\r")
    return Record(number, number, _parse(number, text)) if text else None


def _document_records(blocks: Iterator[bytes]) -> Iterator[Record]:
    """Read an array of rows, or rows of several lines each; ends at the first problem."""
    text = _whole_text(blocks)
    line, counted = 1, 0
    for number, (place, row) in enumerate(_values(text), 1):
        line, counted = line + text.count("\n", counted, place), place
        if isinstance(row, Problem):
            raise Unreadable(Problem(line, f"{row.message} (the file is not JSON Lines: it was read as a whole)"))
        yield Record(line, number, row)


def _whole_text(blocks: Iterator[bytes]) -> str:
    data = bytearray()
    for block in blocks:
        data += block
        if len(data) > MAX_DOCUMENT:
            reason = f"JSON of more than {MAX_DOCUMENT:,} bytes, but not JSON Lines: write one row a line (jq -c '.[]')"
            raise Unreadable(Problem(1, reason))
    texts = []
    for number, line in enumerate(bytes(data).split(b"\n"), 1):
        if isinstance(text := text_of(number, line), Problem):
            raise Unreadable(text)
        texts.append(text)
    return "\n".join(texts)


def _values(text: str) -> Iterator[tuple[int, Any | Problem]]:
    """Yield each value of a text, or each in its arrays, and where it begins; a problem is the last."""
    place, inside, separated = _skip(text, 0), False, True
    while place < len(text):
        char = text[place]
        if char == "[" and not inside:
            inside, separated, place = True, True, place + 1
        elif char == "]" and inside:
            inside, separated, place = False, True, place + 1
        elif char == "," and inside and not separated:
            separated, place = True, place + 1
        elif inside and not separated:
            yield place, Problem(0, "not JSON: a comma is missing between two rows")
            return
        else:
            row, end = _decode(text, place)
            yield place, row
            if isinstance(row, Problem):
                return
            separated, place = False, end
        place = _skip(text, place)
    if inside:
        yield len(text), Problem(0, "not JSON: the array has no end; the file may be cut")


def _skip(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _parse(line: int, text: str) -> Any:
    row, end = _decode(text, 0)
    if isinstance(row, Problem):
        return Problem(line, row.message)
    return row if end == len(text) else Problem(line, f"not JSON: more text after the row, at character {end + 1}")


def _decode(text: str, place: int) -> tuple[Any | Problem, int]:
    """The value that begins there and where it ends, or what is wrong with it."""
    try:
        return _decoder.raw_decode(text, place)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg} at character {error.pos - text.rfind(chr(10), 0, error.pos)}"
    except RecursionError:
        message = "nested too deeply"
    except ValueError as error:
        message = str(error).partition(";")[0]
    return Problem(0, message), place


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
