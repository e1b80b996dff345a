"""Ids after the names of files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath

from jobs.expansion.variant_ids import digest, slug
from jobs.names import LONGEST_PROMPT_ID, name_problem


class FileIds:
    """Gives each file of a source an id of its own: its path without the extension, as far as no other one has it."""

    def __init__(self) -> None:
        self._taken = set[str]()

    def take(self, name: str) -> str:
        """The id of the next file, whose path is relative: `sub/0001.png` is `sub-0001`, a second one `sub-0001-jpg`.

        Case makes no difference to ids.
        """
        found = next(one for one in _names(name) if one.lower() not in self._taken)
        self._taken.add(found.lower())
        return found


def _names(name: str) -> Iterator[str]:
    """The ids that a file may have, the shortest first."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    stem = slug(str(path.with_suffix("") if path.name else path))
    number = 0
    if not name_problem(stem, LONGEST_PROMPT_ID):
        yield stem
    if path.suffix:
        yield f"{stem}-{slug(path.suffix[1:])}"
    while True:
        yield f"{stem}-{digest(name + '/' * number, 12)}"
        number += 1
