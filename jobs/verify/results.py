"""results.jsonl and errors.jsonl against the records, line by line and in step with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from jobs.batch_folder.results import result_line
from jobs.wire import Result


class Lines:
    """One of the two files, followed in the order of the records; what differs first is kept in `fault`."""

    def __init__(self, path: Path) -> None:
        self.fault: str | None = None
        """What is wrong with a line."""
        self.lacking: str | None = None
        """What it lacks: no wonder before the batch is finished."""
        self._name = path.name
        self._file: BinaryIO | None = None
        self._number = 0
        with suppress(FileNotFoundError):
            self._file = path.open("rb")
        if self._file is None:
            self.lacking = f"{self._name} is missing"
        self._line = self._next()

    def follow(self, index: int, record: Result | None) -> Result | None:
        """Compare the record of the next prompt with its line; returns what the line says, None when there is none."""
        while self._line:
            if record and self._line == result_line(record).encode(errors="replace") + b"\n":
                self._line = self._next()
                return record
            line, said = self._line, _read(self._line)
            if said and said.index > index:
                break
            number, self._line = self._number, self._next()
            if said and said.index == index:
                if record and not _same(line, said, record):
                    self._blame(f"line {number} is not the record of {record.id}")
                return said
            self._blame(f"line {number} is {'out of place' if said else 'no result'}")
        if record and not self.lacking:
            self.lacking = f"{self._name} has no line for {record.id}"
        return None

    def end(self) -> None:
        """No prompt is left: nor may be any line."""
        if self._line:
            self._blame(f"line {self._number} is out of place")

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def faults(self) -> Iterator[str]:
        """What differs first, and what is missing."""
        yield from (fault for fault in (self.fault, self.lacking) if fault)

    def _blame(self, what: str) -> None:
        self.fault = self.fault or f"{self._name}, {what}"

    def _next(self) -> bytes:
        self._number += 1
        return self._file.readline() if self._file else b""


def _read(line: bytes) -> Result | None:
    """A line as a result; pydantic's ValidationError is a ValueError."""
    try:
        return Result.model_validate(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _same(line: bytes, said: Result, record: Result) -> bool:
    """Tell whether a line says the same, if with fewer keys: an earlier version may have written it."""
    keys = json.loads(result_line(record))
    return said == record and all(key in keys and keys[key] == value for key, value in json.loads(line).items())
