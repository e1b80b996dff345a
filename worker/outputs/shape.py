"""The shape of an output: which files are in it, what they are called, and what else it holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEM = "output"
STEM_LENGTH = 120
"""A file name has at most 255 bytes: extension, `.part` and a number against collisions need their room."""

Place = tuple[str | int, ...]
"""Keys and indexes that lead to a value inside an output."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file in an output: where, its URL, and its name without extension, unique even without regard to case."""

    place: Place
    url: str
    stem: str


@dataclass(frozen=True, slots=True)
class Document:
    """What an output holds beside its files, as a file."""

    name: str
    content: bytes


def files_in(output: Any, is_file: Callable[[Any], bool]) -> list[OutputFile]:
    """All files of an output in its own order: `output`, `output_0` …, `output_video`, `output_0_file`."""
    found: list[OutputFile] = []
    taken: set[str] = set()
    for place, value in _leaves(output):
        if is_file(value):
            stem = _free(_stem(place), taken)
            taken.add(stem.lower())
            found.append(OutputFile(place, value, stem))
    return found


def other_texts(output: Any, files: Sequence[OutputFile]) -> list[str]:
    """The texts of an output that are none of its files, in its own order."""
    places = {file.place for file in files}
    return [value for place, value in _leaves(output) if isinstance(value, str) and place not in places]


def is_empty(output: Any) -> bool:
    """Nothing is in it: null, "", [], {}, or only such."""
    if isinstance(output, dict):
        return all(map(is_empty, output.values()))
    return all(map(is_empty, output)) if isinstance(output, list) else output in (None, "")


def replaced(output: Any, values: Mapping[Place, str]) -> Any:
    """Return the output with the values at these places replaced."""
    return _mapped(output, values.get) if values else output


def without(value: Any, texts: Mapping[str, str]) -> Any:
    """Return any JSON value with these texts, wherever they stand alone, replaced."""
    return _mapped(value, lambda _, leaf: texts.get(leaf, leaf) if isinstance(leaf, str) else leaf)


def document(output: Any, files: int, value: Any) -> Document | None:
    """Return the file for what is no file: `output.txt` for text and tokens, else `output.json` with `value` in it.

    `files` is how many files are in the output. None when every leaf is one of them, or the output is null.
    """
    if output is None or (files and (isinstance(output, str) or files == len(_leaves(output)))):
        return None
    tokens = [output] if isinstance(output, str) else output
    if not files and isinstance(tokens, list) and tokens and all(isinstance(token, str) for token in tokens):
        return Document(f"{STEM}.txt", _text(tokens))
    return Document(f"{STEM}.json", _json(value))


def _leaves(value: Any) -> list[tuple[Place, Any]]:
    leaves: list[tuple[Place, Any]] = []
    _mapped(value, lambda place, leaf: leaves.append((place, leaf)))
    return leaves


def _mapped(value: Any, change: Callable[[Place, Any], Any], place: Place = ()) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(item, change, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change, (*place, index)) for index, item in enumerate(value)]
    return change(place, value)


def _stem(place: Place) -> str:
    words = (re.sub(r"[^A-Za-z0-9_-]+", "-", str(part)) for part in place)
    return "_".join((STEM, *words))[:STEM_LENGTH]


def _free(stem: str, taken: set[str]) -> str:
    number, free = 1, stem
    while free.lower() in taken:
        number += 1
        free = f"{stem}-{number}"
    return free


def _text(tokens: list[str]) -> bytes:
    """UTF-8; a character that was cut in two by the tokens is whole again, half a one becomes U+FFFD."""
    pairs = "".join(tokens).encode("utf-16-le", "surrogatepass")
    return pairs.decode("utf-16-le", "replace").encode()


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
