"""What a prompts file says, record by record, whatever its format: JSON Lines, CSV or plain text.

Reading is bounded: never more than a block and one line of at most MAX_LINE bytes are in memory.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from jobs.errors import InputError, Problem

MAX_LINE = 2_000_000
"""Bytes of the longest line (CSV: the longest cell); Replicate takes `data:` URIs of 256 kB."""
BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"
FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".txt")
SPECIAL = ("id", "custom_id", "model")
"""The CSV columns that are no inputs."""

_TOO_LONG = f"the line is longer than {MAX_LINE:,} bytes; give big files by URL"
_JSON_SCALAR = re.compile(r"true|false|-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


Plain = TypeVar("Plain")


class Record(NamedTuple):
    """One record: its physical line and its number (both from 1), and a row as in JSON Lines or what is wrong."""

    line: int
    number: int
    row: Any | Problem


def file_format(source: str) -> str:
    """Return which of FORMATS a file has by its name; standard input ("-") is JSON Lines. InputError if none."""
    if source == "-":
        return ".jsonl"
    for suffix in FORMATS:
        if source.lower().endswith(suffix):
            return suffix
    raise InputError(f"{source}: the format is not known by its name; it must end in {', '.join(FORMATS)}")


def read_records(source: str, plain: Callable[[bytes, int], Plain | None]) -> Iterator[Record | Plain]:
    """Yield the records of a file or of standard input ("-"); InputError when it cannot be opened.

    A line of JSON is first shown to `plain`, with its number: what that makes of it, if anything, is yielded instead.
    """
    suffix = file_format(source)
    with _opened(source) as stream:
        lines = _numbered(stream)
        if suffix == ".csv":
            yield from _csv_records(lines)
        elif suffix == ".txt":
            yield from _text_records(lines)
        else:
            yield from _json_records(lines, plain)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    path = Path(source)
    if path.is_dir():
        raise InputError(f"{source} is a directory, not a prompts file")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from None
    zipped = source.lower().endswith(".gz")
    with stream, gzip.GzipFile(fileobj=stream) if zipped else nullcontext(stream) as opened:
        yield cast("BinaryIO", opened)


def _numbered(stream: BinaryIO) -> Iterator[tuple[int, bytes | Problem]]:
    """Yield each physical line with its number from 1, the last one being a problem if reading fails."""
    number = 0
    try:
        for number, line in enumerate(_lines(stream), 1):
            yield number, line if len(line) <= MAX_LINE else Problem(number, _TOO_LONG)
    except (OSError, EOFError, zlib.error) as error:
        yield number + 1, Problem(number + 1, f"the file cannot be read further: {error}")


def _text(number: int, line: bytes | Problem) -> str | Problem:
    try:
        return line if isinstance(line, Problem) else line.decode()
    except UnicodeDecodeError as error:
        return Problem(number, _not_utf8(error.object, error))


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield each line; of one over MAX_LINE little more is kept than shows that it is."""
    rest = b""
    block = stream.read(BLOCK).removeprefix(BOM)
    while block:
        head, *lines = block.split(b"\n")
        if len(rest) <= MAX_LINE:
            rest += head
        if lines:
            yield rest
            rest = lines.pop()
            yield from lines
        block = stream.read(BLOCK)
    if rest:
        yield rest


def _json_records(
    lines: Iterator[tuple[int, bytes | Problem]], plain: Callable[[bytes, int], Plain | None]
) -> Iterator[Record | Plain]:
    for number, line in lines:
        if isinstance(line, bytes) and (row := plain(line, number)) is not None:
            yield row
        elif isinstance(text := _text(number, line), Problem):
            yield Record(number, number, text)
        elif text := text.strip(" \t\r"):
            yield Record(number, number, _json(number, text))


def _text_records(lines: Iterator[tuple[int, bytes | Problem]]) -> Iterator[Record]:
    for number, line in lines:
        if isinstance(text := _text(number, line), Problem):
            yield Record(number, number, text)
        elif text := text.strip():
            yield Record(number, number, {"input": {"prompt": text}})


def _csv_records(lines: Iterator[tuple[int, bytes | Problem]]) -> Iterator[Record]:
    """Stop at the first line that breaks the format: what follows cannot be told apart."""
    csv.field_size_limit(MAX_LINE)
    rows = csv.reader(_csv_lines(lines), strict=True)
    number = ended = 0
    try:
        header = _csv_header(rows)
        ended = rows.line_num
        for cells in rows:
            begins, ended = ended + 1, rows.line_num
            if any(cells):
                number += 1
                yield Record(begins, number, _csv_row(begins, header, cells))
    except csv.Error as error:
        yield _broken(Problem(ended + 1, f"not CSV: {error}"))
    except _Unreadable as error:
        yield _broken(error.problem)


def _csv_lines(lines: Iterator[tuple[int, bytes | Problem]]) -> Iterator[str]:
    for number, line in lines:
        if isinstance(text := _text(number, line), Problem):
            raise _Unreadable(text)
        yield text + "\n"


def _csv_header(rows: Any) -> list[str]:
    header = [name.strip() for name in next(filter(any, rows), [])]
    twice = [name for name in header if header.count(name) > 1]
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise _Unreadable(Problem(rows.line_num, "the columns must be separated by commas"))
    if "" in header:
        raise _Unreadable(Problem(rows.line_num, f"column {header.index('') + 1} has no name"))
    if twice:
        raise _Unreadable(Problem(rows.line_num, f"the column {twice[0]!r} is there twice"))
    return header


def _csv_row(line: int, header: list[str], cells: list[str]) -> Any:
    if len(cells) != len(header):
        return Problem(line, f"{len(cells)} cells where the header has {len(header)} columns")
    given = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    row: dict[str, Any] = {name: given.pop(name) for name in SPECIAL if name in given}
    return row | {"input": {name: _cell(name, cell) for name, cell in given.items()}}


def _cell(name: str, cell: str) -> Any:
    """A JSON number, true or false becomes that value; all else, and a prompt in any case, is text."""
    if name == "prompt" or len(cell) > 300 or not _JSON_SCALAR.fullmatch(cell):
        return cell
    value = json.loads(cell)
    return cell if value in (float("inf"), float("-inf")) else value


def _json(line: int, text: str) -> Any:
    try:
        row, end = _decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        return Problem(line, f"not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return Problem(line, "nested too deeply")
    except ValueError as error:
        return Problem(line, str(error).partition(";")[0])
    return row if end == len(text) else Problem(line, f"not JSON: more text after the row, at character {end + 1}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _not_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "not UTF-8 but UTF-16: save the file as UTF-8"
    return f"not UTF-8: byte 0x{line[error.start]:02x} at offset {error.start} of the line"


def _broken(problem: Problem) -> Record:
    return Record(problem.line, 0, Problem(problem.line, f"{problem.message}; the rest was not checked"))


class _Unreadable(Exception):
    """A CSV file cannot be understood past a line."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)
