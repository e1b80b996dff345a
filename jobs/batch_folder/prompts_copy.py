"""The batch's own copy of its prompts.

A row's place in the copy is its index for ever. The copy is only ever replaced as a whole, by a longer one, or one with
rows of a later generation: appending in place could leave a torn last line after a crash, and copying even a million
rows takes a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.batch_folder.atomic_files import BLOCK, storing
from jobs.batch_folder.folder import Folder
from jobs.errors import StorageError
from jobs.wire import Prompt

_ROW = re.compile(rb'\{(?:"generation":(\d+),)?"id":"([A-Za-z0-9._-]+)",.*\}\n', re.DOTALL)
_FIRST_ROWS = re.compile(rb'(?:\{"id":"[A-Za-z0-9._-]+",[^\n]*\}\n)+')


@dataclass(slots=True)
class CopiedRow:
    """A row of the own copy; `text` is its JSON object without the generation, as in `fast_rows.Row`."""

    index: int
    generation: int
    id: str
    text: bytes


def read_copy(folder: Folder) -> Iterator[Prompt]:
    """Yield the prompts of the copy, in order; none when there is no copy. StorageError when a line is not ours."""
    return (prompt_at(folder, index, line) for index, line in enumerate(read_lines(folder)))


def prompt_at(folder: Folder, index: int, line: bytes) -> Prompt:
    """Return the prompt of a line of the copy; StorageError when it is not ours."""
    try:
        return parse_prompt(index, line)
    except ValueError as error:
        message = f"{folder.prompts}, line {index + 1}, is damaged; restore the file"
        raise StorageError(message, folder.prompts) from error


def parse_prompt(index: int, line: bytes) -> Prompt:
    """Return the prompt of a line of the copy; ValueError when it is none."""
    try:
        row = json.loads(line.decode("utf-8", "surrogatepass"))
        return Prompt(index, row["id"], row["model"], row["input"], row.get("generation", 0))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no prompt: {error!r}") from error


def count_rows(folder: Folder) -> int:
    """How many rows the copy has; 0 when there is none."""
    return sum(1 for _ in read_lines(folder))


def read_rows(folder: Folder) -> Iterator[CopiedRow]:
    """Yield the rows of the copy, in order; none when there is no copy. StorageError when a line is not ours."""
    return (kept_row(folder, index, line) for index, line in enumerate(read_lines(folder)))


def read_lines(folder: Folder) -> Iterator[bytes]:
    """Yield the lines of the copy as they are, for `kept_row`; StorageError."""
    if folder.prompts.exists():
        with storing(folder.prompts), folder.prompts.open("rb", BLOCK) as lines:
            yield from lines


def kept_row(folder: Folder, index: int, line: bytes) -> CopiedRow:
    """Parse a line of the copy; StorageError when it is not ours."""
    if not (match := _ROW.fullmatch(line)):
        raise StorageError(
            f"{folder.prompts}, line {index + 1}, is damaged; restore the file, or delete the batch and its folder",
            folder.prompts,
        )
    generation, prompt_id = match.groups()
    text = line[:-1] if generation is None else b"{" + line[match.end(1) + 1 : -1]
    return CopiedRow(index, int(generation or 0), prompt_id.decode(), text)


def are_of_first_generation(lines: list[bytes]) -> bool:
    """Whether all these lines are ours and were never retried: each is a row's text and a newline."""
    return _FIRST_ROWS.fullmatch(b"".join(lines)) is not None


def kept_line(text: bytes, generation: int) -> bytes:
    """Return a row's line of the copy."""
    return (b'{"generation":%d,' % generation + text[1:] if generation else text) + b"\n"


def model_of(text: bytes) -> str:
    """Return the model of a row: its text is canonical, so that the model is the last of its keys."""
    return text.rpartition(b'"model":"')[2][:-2].decode()
