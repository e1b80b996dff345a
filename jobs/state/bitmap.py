"""One bit for each prompt of a batch, as Redis stores it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bits:
    """A bitmap as Redis stores it: prompt 0 is the highest bit of the first byte."""

    data: bytes

    def __contains__(self, index: int) -> bool:
        """Tell whether prompt `index` has its bit set."""
        byte = index >> 3
        return byte < len(self.data) and bool(self.data[byte] & (0x80 >> (index & 7)))

    def __len__(self) -> int:
        """Count the set bits."""
        return int.from_bytes(self.data).bit_count()

    def missing(self, indexes: range) -> list[int]:
        """Those of `indexes` that are not set; found at once where none is set nearby."""
        if not any(self.data[indexes.start >> 3 : (indexes.stop + 7) >> 3]):
            return list(indexes)
        return [index for index in indexes if index not in self]

    def count(self, indexes: Iterable[int]) -> int:
        """Count those of `indexes` that are set."""
        return sum(index in self for index in indexes) if self.data else 0
