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
    """A running checksum, like hashlib's objects."""

    def update(self, data: bytes, /) -> None:
        """Add the next bytes."""

    def digest(self) -> bytes:
        """The checksum of the bytes so far."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """The checksum a file must have; `sure`: its host declares it, it is no ETag that merely looks like one."""

    algorithm: Algorithm
    digest: bytes
    sure: bool = True

    def begin(self) -> Hash:
        """Return a hash of that kind, of no bytes."""
        if self.algorithm == "md5":
            return hashlib.md5(usedforsecurity=False)
        crc32c: Hash = google_crc32c.Checksum()
        return crc32c
