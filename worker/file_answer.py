"""What a file host answers: the bytes, and what its headers say about them."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_MD5 = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_GOOGLE_MD5 = re.compile(r"md5=([A-Za-z0-9+/]{22}==)")


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An open answer with status 200, 206 or 416; `headers` by lower-case name, `chunks` only while it is open."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    @property
    def content_type(self) -> str | None:
        """The header as sent, parameters included."""
        return self.headers.get("content-type") or None

    @property
    def encoded(self) -> bool:
        """The host compressed the transfer although it was not asked to: sizes and checksums are not the file's."""
        return self.headers.get("content-encoding", "identity").lower() != "identity"

    @property
    def start(self) -> int:
        """The place of the first byte in the file; -1 when a partial answer does not say it."""
        if self.status != 206:
            return 0
        match = _RANGE.match(self.headers.get("content-range", ""))
        return int(match[1]) if match else -1

    @property
    def length(self) -> int | None:
        """The whole file's length in bytes, if it is told."""
        if self.status == 206:
            match = _RANGE.match(self.headers.get("content-range", ""))
            return int(match[2]) if match and match[2] != "*" else None
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and not self.encoded else None

    @property
    def validator(self) -> str | None:
        """The strong ETag, with which a broken transfer can be resumed."""
        etag = self.headers.get("etag", "")
        return etag if etag.startswith('"') and not self.encoded else None

    @property
    def md5(self) -> str | None:
        """The file's md5 in hex, as Google's storage declares it."""
        match = _GOOGLE_MD5.search(self.headers.get("x-goog-hash", ""))
        return base64.b64decode(match[1]).hex() if match and not self.encoded else None

    @property
    def supposed_md5(self) -> str | None:
        """An ETag that looks like an md5: it usually is one."""
        etag = (self.validator or "").strip('"')
        return etag.lower() if _MD5.fullmatch(etag) else None
