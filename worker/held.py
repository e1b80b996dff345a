"""Small files that came whole: their bytes wait in memory for the commit, which writes them in its own thread hop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

SMALL = 1 << 18
"""Bytes of a file that is held: its checksums take the event loop 0.5 ms at most (sha256 and md5; 0.2 with crc32c)."""

MOST = 1 << 25
"""Bytes of all that is held; what does not fit goes to disk at once, in its download's slot."""


class Held:
    """The held files of one worker, by folder and name; for the event loop only."""

    def __init__(self) -> None:
        self._folders: defaultdict[Path, dict[str, list[bytes]]] = defaultdict(dict)
        self._bytes = 0

    def has_room(self, size: int) -> bool:
        """Whether a file of so many bytes may be held."""
        return size <= SMALL and self._bytes + size <= MOST

    def put(self, folder: Path, name: str, pieces: list[bytes]) -> None:
        """Hold a file, in place of an earlier one of that name."""
        files = self._folders[folder]
        self._bytes += _size(pieces) - _size(files.get(name, ()))
        files[name] = pieces

    def files(self, folder: Path) -> dict[str, list[bytes]]:
        """What is held of a folder; it stays held until it is dropped."""
        return self._folders.get(folder, {})

    def drop(self, folder: Path) -> None:
        """The folder is committed or discarded."""
        self._bytes -= sum(map(_size, self._folders.pop(folder, {}).values()))


def _size(pieces: Iterable[bytes]) -> int:
    return sum(map(len, pieces))
