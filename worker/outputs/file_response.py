"""What a file host answers: the bytes, and what its headers say about them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import google_crc32c

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_MD5 = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_DECLARED = {"crc32c": re.compile(r"crc32c=([A-Za-z0-9+/]{6}==)"), "md5": re.compile(r"md5=([A-Za-z0-9+/]{22}==)")}


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


@dataclass(frozen=True, slots=True)
class FileResponse:
    """An open answer with status 200, 206 or 416; `headers` by lower-case name, `chunks` only while it is open.

    `packed`: the host compressed the transfer although it was not asked to; lengths are not the file's.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    packed: bool = False

    @property
    def content_type(self) -> str | None:
        """The header as sent, parameters included."""
        return self.headers.get("content-type") or None

    @property
    def repacked(self) -> bool:
        """Checksums and ETag describe other bytes than those that come.

        Google's storage unzips what it keeps zipped for whoever does not accept gzip, and says so in these headers.
        """
        unzipped = "gunzipped" in self.headers.get("x-guploader-response-body-transformations", "")
        stored = self.headers.get("x-goog-stored-content-encoding", "identity").lower()
        return self.packed or unzipped or stored not in ("identity", self.headers.get("content-encoding", "").lower())

    @property
    def start(self) -> int:
        """The place of the first byte in the file; -1 when a partial answer does not say it."""
        if self.status != 206:
            return 0
        match = _RANGE.match(self.headers.get("content-range", ""))
        return int(match[1]) if match else -1

    @property
    def length(self) -> int | None:
        """The whole file's length in bytes, if the host says it."""
        if self.status == 206:
            match = _RANGE.match(self.headers.get("content-range", ""))
            return int(match[2]) if match and match[2] != "*" else None
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and not self.packed else None

    @property
    def validator(self) -> str | None:
        """The strong ETag, with which a broken transfer can be resumed."""
        etag = self.headers.get("etag", "")
        return etag if etag.startswith('"') and not self.repacked else None

    @property
    def checksum(self) -> Checksum | None:
        """The file's checksum: as Google's storage declares it, else from an ETag that looks like an md5."""
        etag = (self.validator or "").strip('"')
        supposed = Checksum("md5", bytes.fromhex(etag), sure=False) if _MD5.fullmatch(etag) else None
        crc32c = self._declared("crc32c") if CRC32C_IS_CHEAP else None
        return crc32c or self._declared("md5") or supposed

    def _declared(self, algorithm: Algorithm) -> Checksum | None:
        match = _DECLARED[algorithm].search(self.headers.get("x-goog-hash", ""))
        return Checksum(algorithm, base64.b64decode(match[1])) if match and not self.repacked else None
