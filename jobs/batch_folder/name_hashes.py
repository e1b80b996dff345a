"""Many names in memory, as hashes of eight bytes: enough to find those that came twice or never."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import pairwise


class NameHashes:
    """Hashes of names, each with the index of its owner; the names themselves are not kept."""

    def __init__(self) -> None:
        self._hashes, self._owners = array("q"), array("L")
        self._sorted = array("q")

    def add(self, name: str, owner: int) -> None:
        """Add a name of an owner, each only once."""
        self._hashes.append(hash(name))
        self._owners.append(owner)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._hashes)

    def __contains__(self, name: str) -> bool:
        """Whether a name was added."""
        if len(self._sorted) != len(self._hashes):
            self._sorted = array("q", sorted(self._hashes))
        place = bisect_left(self._sorted, hash(name))
        return place < len(self._sorted) and self._sorted[place] == hash(name)

    def repeated(self) -> set[int]:
        """The owners of names that came twice, perhaps with a few others by chance."""
        twice = {one for one, other in pairwise(sorted(self._hashes)) if one == other}
        return {owner for found, owner in zip(self._hashes, self._owners, strict=True) if found in twice}
