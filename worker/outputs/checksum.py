"""The checksums that file hosts declare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import google_crc32c

CRC32C_IS_CHEAP = google_crc32c.implementation == "c"
"""0.04 ms a MiB, where md5 takes 1.4 and sha256 0.6; in pure Python 300."""


Algorithm = Literal["crc32c", "md5"]


class Hash(Protocol):
    """One under way, as hashlib's."""

    def update(self, data: bytes, /) -> None:
        """Go on with the next bytes."""

    def digest(self) -> bytes:
        """What it has come to."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file comes to; `sure`: the host says so, it is no ETag that merely looks like one."""

    algorithm: Algorithm
    digest: bytes
    sure: bool = True

    def begin(self) -> Hash:
        """Return a hash of that kind, of no bytes."""
        if self.algorithm == "md5":
            return hashlib.md5(usedforsecurity=False)
        crc32c: Hash = google_crc32c.Checksum()
        return crc32c
