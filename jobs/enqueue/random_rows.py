"""Rows of a file that are picked at random, by a seed: the same ones each time, and more of them include fewer."""

from __future__ import annotations

import hashlib
from heapq import heappush, heappushpop


class RandomRows:
    """Picks so many of the rows that it is shown."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed
        self._found: list[tuple[int, int]] = []
        """A heap of the rows with the smallest digests: minus the digest, and the place."""

    def show(self, prompt_id: str, place: int) -> None:
        """Show the next row."""
        digest = hashlib.sha256(f"{self._seed}/{prompt_id}".encode()).digest()
        item = -int.from_bytes(digest), place
        if len(self._found) < self._size:
            heappush(self._found, item)
        else:
            heappushpop(self._found, item)

    @property
    def places(self) -> list[int]:
        """The places of those that were picked, in order."""
        return sorted(place for _, place in self._found)
