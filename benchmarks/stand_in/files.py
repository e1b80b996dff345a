"""Output files with lengths, checksums and ranges as Replicate's host has them, served from memory."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from random import Random
from typing import Self

import google_crc32c

from benchmarks.stand_in.http1 import Answer, Request

VARIANTS = 8
"""Different files of a size; each is generated once."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file's bytes and the headers that go with them."""

    data: memoryview
    etag: str
    head: bytes

    @classmethod
    def generate(cls, size: int, seed: int) -> Self:
        """Random bytes of that size, always the same for a seed."""
        data = Random(seed).randbytes(size)
        md5 = hashlib.md5(data, usedforsecurity=False)
        crc32c = google_crc32c.value(data).to_bytes(4)
        lines = (
            "content-type: image/png",
            f'etag: "{md5.hexdigest()}"',
            "last-modified: Fri, 01 May 2026 00:00:00 GMT",
            "accept-ranges: bytes",
            f"x-goog-hash: crc32c={base64.b64encode(crc32c).decode()}",
            f"x-goog-hash: md5={base64.b64encode(md5.digest()).decode()}",
        )
        return cls(memoryview(data), f'"{md5.hexdigest()}"', "".join(f"{line}\r\n" for line in lines).encode())

    def answer(self, request: Request) -> Answer:
        """The whole file, or the part that was asked for."""
        span = _RANGE.fullmatch(request.header(b"range"))
        if not span or request.header(b"if-range") not in ("", self.etag):
            return Answer(self.data, head=self.head)
        start, stop = int(span[1]), min(int(span[2] or len(self.data) - 1), len(self.data) - 1)
        if start > stop:
            return Answer(b"", 416, b"content-range: bytes */%d\r\n" % len(self.data))
        part = b"content-range: bytes %d-%d/%d\r\n" % (start, stop, len(self.data))
        return Answer(self.data[start : stop + 1], 206, self.head + part)


def generate_files(size: int) -> list[OutputFile]:
    """All files of a size."""
    return [OutputFile.generate(size, seed) for seed in range(VARIANTS)]
