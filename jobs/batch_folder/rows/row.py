"""What the result files and the gallery have of one prompt, and whether that still holds."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from jobs.batch_folder.folder import RECORD, Folder
from jobs.batch_folder.gallery_items import lay_out, text_files
from jobs.batch_folder.rows.item_html import render_item
from jobs.batch_folder.rows.result_line import damaged_result, result_line
from jobs.batch_folder.rows.totals import Totals
from jobs.errors import DamagedRecord
from jobs.wire import Outcome, Prompt, Result, canonical_json

Mark = tuple[str, int, int]
"""A file or folder of a prompt by its path in the batch's folder: its inode and the time of its last change in ns."""

_LONGEST = 1 << 18
"""Characters of a line that is kept in a segment: one that has all of a `data:` URI would take a lot of memory."""

_GENERATION = re.compile(rb'\{"generation":\d+,')


class Row(NamedTuple):
    """A prompt and its result; a prompt without a record has neither `line` nor `status`.

    `digest` is of its row in the copy, and `marks` are of its folder, its record and the text files that the gallery
    shows: while they are the same, the rest holds. A row without marks holds only now. `html` is None if it was not
    needed. `place` is the prompt's index; `kind` and `message` are its error's, if any; `counts` its own Totals.
    """

    place: int
    id: str
    digest: str
    marks: tuple[Mark, ...]
    line: str
    html: str | None
    status: Outcome | None
    saved_at: str
    kind: str
    message: str
    counts: Sequence[int | None]

    @property
    def is_unsuccessful(self) -> bool:
        """Whether it ended otherwise than succeeded."""
        return self.status not in ("succeeded", None)


def build_row(folder: Folder, directory: int, prompt: Prompt, digest: str, *, with_html: bool) -> Row:
    """The row of a prompt by its record in the open folder of its batch; StorageError when that cannot be read."""
    marks, is_whole = [mark(directory, prompt.id), mark(directory, f"{prompt.id}/{RECORD}")], True
    try:
        result = folder.read_record(prompt.id)
    except DamagedRecord as damage:
        result, is_whole = damaged_result(prompt, damage), False
    marks += [mark(directory, path) for path in (text_files(result) if result and with_html else ())]
    counts, line = Totals(), _as_utf_8(result_line(result)) if result else ""
    counts.count(result)
    error = result.error if result else None
    is_kept = is_whole and _agree(marks, result) and len(line) <= _LONGEST
    return Row(
        place=prompt.index,
        id=result.id if result else prompt.id,
        digest=digest,
        marks=tuple(marks) if is_kept else (),
        line=line,
        html=_as_utf_8(render_item(lay_out(folder, prompt, result))) if with_html else None,
        status=result.status if result else None,
        saved_at=(result.saved_at or "") if result else "",
        kind=error.kind if error else "",
        message=_as_utf_8(error.message) if error else "",
        counts=counts.values,
    )


def is_current(row: Row, directory: int, *, strict: bool) -> bool:
    """Whether a row still holds, by its prompt's folder; `strict`: by its record and its texts, too.

    Whatever commits or moves a record changes the folder, and a million folders are looked at in seconds; only who
    writes into a file that is there is not noticed by that.
    """
    marks = row.marks if strict else row.marks[:1]
    return bool(marks) and all(tuple(known) == mark(directory, known[0]) for known in marks)


def digest_of(prompt: Prompt) -> str:
    """The digest of a prompt's row, as it is in the copy unless its numbers are written in an unusual way."""
    text = canonical_json({"id": prompt.id, "input": prompt.input, "model": prompt.model})
    return _digest(text.encode("utf-8", "surrogatepass"))


def digest_of_line(line: bytes) -> str:
    """The digest of a line of the copy; the row's generation does not count, as its result may be of an earlier one."""
    match = _GENERATION.match(line)
    return _digest(b"{" + line[match.end() : -1] if match else line[:-1])


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def mark(directory: int, path: str) -> Mark:
    """The mark of a file or folder in an open folder; all that are not there have the same."""
    try:
        found = os.stat(path, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return path, 0, 0
    except OSError as error:  # nothing that was seen before is like this
        return path, -1, error.errno or 0
    return path, found.st_ino, found.st_ctime_ns


def _agree(marks: list[Mark], result: Result | None) -> bool:
    """Whether nothing was committed or moved while the record was read."""
    return all((inode > 0) == (result is not None) and inode >= 0 for _, inode, _ in marks[:2])


def _as_utf_8(text: str) -> str:
    """The text without halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode()
