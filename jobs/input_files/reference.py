"""References: in a batch's copy, `{"$file": PATH, "sha256": …, "size": …}` stands for a local file in an input.

The path is as the machine has it that enqueued the file, and absolute; the size is in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from orjson import loads

KEY = "$file"

_MARK = f'{{"{KEY}":'.encode()
"""What a row of a batch's copy contains if it has a reference."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileReference(NamedTuple):
    """A local file with the content that it had when it was enqueued."""

    path: str
    sha256: str
    size: int

    def as_value(self) -> dict[str, Any]:
        """Its JSON object."""
        return {KEY: self.path, "sha256": self.sha256, "size": self.size}


def read_reference(value: Any) -> FileReference | None:
    """The reference that a JSON value is; None when it is none."""
    if type(value) is not dict or len(value) != 3 or KEY not in value:
        return None
    path, sha256, size = value[KEY], value.get("sha256"), value.get("size")
    if isinstance(path, str) and isinstance(sha256, str) and _SHA256.fullmatch(sha256) and type(size) is int:
        return FileReference(path, sha256, size)
    return None


def references(value: Any) -> Iterator[FileReference]:
    """Every reference in an input, however deep."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if found := read_reference(item):
            yield found
        elif type(item) is dict or type(item) is list:
            waiting.extend(reversed(item.values() if type(item) is dict else item))


def has_references(value: Any) -> bool:
    """Whether there is a local file in an input."""
    return next(references(value), None) is not None


def references_in(text: bytes) -> Iterable[FileReference]:
    """Every reference in a row of a batch's copy."""
    return references(loads(text)["input"]) if _MARK in text else ()


def with_files(values: Mapping[str, Any], replace: Callable[[FileReference], Any]) -> Mapping[str, Any]:
    """The input with each reference replaced; itself when it has none."""
    if not has_references(values):
        return values
    found: Mapping[str, Any] = _replaced(values, replace)
    return found


def _replaced(value: Any, replace: Callable[[FileReference], Any]) -> Any:
    if reference := read_reference(value):
        return replace(reference)
    if type(value) is dict:
        return {key: _replaced(item, replace) for key, item in value.items()}
    return [_replaced(item, replace) for item in value] if type(value) is list else value
