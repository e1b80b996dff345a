"""Parquet and Arrow files, read batch by batch with pyarrow, which is an extra of this package.

A null, and a NaN that pandas wrote in its place, is a value that the row does not have, as an empty cell of a table.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from jobs.errors import InputError, Problem
from jobs.prompts_file.columns import Columns
from jobs.prompts_file.csv_rows import SPECIAL
from jobs.prompts_file.text_lines import Unreadable

BATCH = 1000
"""Rows that are in memory as Python objects."""

_PARQUET, _ARROW_FILE, _ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_NO_COLUMN = re.compile(r"__index_level_\d+__")
"""How pandas keeps its index."""

Convert = Callable[[Any], Any]


class _NoValue(ValueError):
    """A type or a value that JSON cannot express."""


class ArrowTable:
    """The rows of a file, as in JSON Lines."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path, self._columns = path, columns

    def rows(self) -> Iterator[tuple[int, Any | Problem]]:
        """Yield each row with its number from 1, or what is wrong with it; InputError without pyarrow, Unreadable."""
        number = 0
        with self._reading():
            schema, batches = self._open()
            names = self._names(schema)
            converts = [_converter_of(name, schema.field(place).type) for place, name in names.items()]
            for batch in batches:
                batch.validate(full=True)
                for start in range(0, batch.num_rows, BATCH):
                    part = batch.slice(start, BATCH)
                    lists = [_values(part.column(schema.names[place])) for place in names]
                    for values in zip(*lists, strict=True) if lists else [()] * part.num_rows:
                        number += 1
                        yield number, _row(number, names.values(), values, converts)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        pa = _pyarrow(self._path)
        try:
            yield
        except _NoValue as error:
            raise Unreadable(Problem(1, str(error))) from None
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
            raise Unreadable(Problem(1, f"the file is cut off or damaged; pyarrow says: {reason}")) from None

    def _open(self) -> tuple[Any, Iterator[Any]]:
        """The schema, and the batches of all columns that are wanted."""
        pa = _pyarrow(self._path)
        with self._path.open("rb") as file:
            head = file.read(8)
        if self._path.name.lower().endswith(".parquet"):
            _check_head(head, "a Parquet file", _PARQUET)
            from pyarrow.parquet import ParquetFile

            parquet = ParquetFile(self._path, memory_map=True)
            wanted = [parquet.schema_arrow.names[place] for place in self._names(parquet.schema_arrow)]
            return parquet.schema_arrow, parquet.iter_batches(BATCH, columns=wanted)
        _check_head(head, "an Arrow file", _ARROW_FILE, _ARROW_STREAM)
        from pyarrow import ipc

        source = pa.memory_map(str(self._path))
        if head.startswith(_ARROW_STREAM):
            stream = ipc.open_stream(source)
            return stream.schema, stream
        whole = ipc.open_file(source)
        return whole.schema, map(whole.get_batch, range(whole.num_record_batches))

    def _names(self, schema: Any) -> dict[int, str]:
        """The new names of the columns by their places, without those that are left out."""
        if twice := [name for name in schema.names if schema.names.count(name) > 1]:
            raise _NoValue(f"the column {twice[0]!r} is there twice")
        try:
            names = self._columns.rename_all(schema.names)
        except ValueError as error:
            raise _NoValue(str(error)) from None
        return {place: name for place, name in enumerate(names) if name and not _NO_COLUMN.fullmatch(name)}


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError(
            f"{path}: Parquet and Arrow files are read by pyarrow, which is not installed; the extra `parquet` has it: "
            "pip install 'replicate-batch[parquet]', or pip install pyarrow"
        ) from None
    return pa


def _check_head(head: bytes, kind: str, *expected: bytes) -> None:
    if head.startswith(expected):
        return
    found = {
        _PARQUET: "a Parquet file",
        _ARROW_FILE: "an Arrow file",
        b"FEA1": "an old Feather file",
        b"PARE": "encrypted",
    }
    other = next((f": it is {name}" for start, name in found.items() if head.startswith(start)), "")
    raise _NoValue(f"the file does not begin as {kind}{other}{'' if head else ': it is empty'}")


def _values(column: Any) -> list[Any]:
    """The values as Python has them; its times have no nanoseconds."""
    from pyarrow import timestamp, types

    if types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(timestamp("us", column.type.tz), safe=False)
    found: list[Any] = column.to_pylist()
    return found


def _row(number: int, names: Any, values: tuple[Any, ...], converts: list[Convert]) -> Any | Problem:
    given: dict[str, Any] = {}
    for name, value, convert in zip(names, values, converts, strict=True):
        try:
            plain = None if value is None else convert(value)
        except _NoValue as error:
            return Problem(number, f"{name!r}: {error}")
        if plain is not None:
            given[name] = plain
    row = {name: given.pop(name) for name in SPECIAL if name in given}
    return {name: str(value) if type(value) is int else value for name, value in row.items()} | {"input": given}


def _converter_of(name: str, kind: Any) -> Convert:
    try:
        return _converter(kind)
    except _NoValue as error:
        raise _NoValue(f"the column {name!r} has {error}; leave it out by --map {name}=") from None


def _converter(kind: Any) -> Convert:  # noqa: C901, PLR0911 - a table of types
    """Return what converts the values of a type to JSON; _NoValue if nothing can."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _converter(kind.value_type)
    if types.is_float32(kind) or types.is_float16(kind):
        return partial(_shortest, "f" if types.is_float32(kind) else "e")
    if types.is_float64(kind):
        return _number
    if types.is_decimal(kind):
        return _decimal
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind):
        return lambda value: value.isoformat()
    if types.is_struct(kind):
        return _struct_converter(kind)
    if any(is_list(kind) for is_list in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        return partial(_each, _converter(kind.value_type))
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_null(kind):
        return _same
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _same
    if "binary" in str(kind):
        raise _NoValue("bytes, such as pictures, which cannot be sent yet")
    raise _NoValue(f"values of the type {kind}, which JSON does not have")


def _struct_converter(kind: Any) -> Convert:
    fields = [kind.field(place) for place in range(kind.num_fields)]
    converts = {field.name: _converter(field.type) for field in fields}
    return lambda value: {key: None if item is None else converts[key](item) for key, item in value.items()}


def _same(value: Any) -> Any:
    return value


def _each(convert: Convert, values: list[Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in values]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _shortest(code: str, value: float) -> float | None:
    """The shortest number that is stored in the same bytes: 7.1, not 7.099999904632568."""
    if math.isnan(value) or math.isinf(value):
        return _number(value)
    packed = struct.pack(code, value)
    tries = (float(f"{value:.{digits}g}") for digits in range(3, 10))
    return next((short for short in tries if _packs(code, short, packed)), value)


def _packs(code: str, value: float, packed: bytes) -> bool:
    try:
        return struct.pack(code, value) == packed
    except OverflowError:  # rounded beyond the largest number
        return False


def _decimal(value: Decimal) -> int | float:
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    if Decimal(repr(number)) != value:
        raise _NoValue(f"{value} has more digits than a number of JSON keeps; store it as text")
    return number
