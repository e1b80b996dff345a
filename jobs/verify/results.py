"""results.jsonl and errors.jsonl, compared with the records line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from jobs.batch_folder.rows.result_line import REVIEW, result_line
from jobs.wire import Result


class Lines:
    """One of the two files, read in the order of the records; `fault` is the first difference."""

    def __init__(self, path: Path) -> None:
        self.fault: str | None = None
        """The first wrong line."""
        self.missing: str | None = None
        """What it lacks, which is normal before the batch is finished."""
        self._name = path.name
        self._file: BinaryIO | None = None
        self._number = 0
        with suppress(FileNotFoundError):
            self._file = path.open("rb")
        if self._file is None:
            self.missing = f"{self._name} is missing"
        self._line = self._next()

    def compare(self, index: int, record: Result | None, expected: bytes) -> Result | None:
        """Compare the record of the next prompt, or its absence, with its line, which should be `expected`.

        Returns the line's result, None when there is none.
        """
        while self._line:
            if record and self._line == expected + b"\n":
                self._line = self._next()
                return record
            line, result = self._line, _read(self._line)
            if result and result.index > index:
                break
            number, self._line = self._number, self._next()
            if result and result.index == index:
                if record and not _same(line, result, record):
                    self._set_fault(f"line {number} is not the record of {record.id}")
                return result
            self._set_fault(f"line {number} is {'out of place' if result else 'no result'}")
        if record and not self.missing:
            self.missing = f"{self._name} has no line for {record.id}"
        return None

    def end(self) -> None:
        """Check that no line is left after the last prompt."""
        if self._line:
            self._set_fault(f"line {self._number} is out of place")

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def faults(self) -> Iterator[str]:
        """Yield the first difference, and what is missing."""
        yield from (fault for fault in (self.fault, self.missing) if fault)

    def _set_fault(self, what: str) -> None:
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


def _same(line: bytes, result: Result, record: Result) -> bool:
    """Whether a line has the same result, perhaps with fewer keys: an earlier version may have written it."""
    keys, found = json.loads(result_line(record)), json.loads(line)
    found.pop(REVIEW, None)
    return result == record and all(key in keys and keys[key] == value for key, value in found.items())
