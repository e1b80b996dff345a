"""Content-Encoding: how a file host packed a transfer that it was asked to send as it is."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator

from jobs.errors import BrokenDownload
from worker.outputs.media_types import named_extension

_NO_CODING = {"", "identity", "none", "binary", "utf-8", "utf8", "aws-chunked"}
"""What hosts write there although it packs nothing; all but the first two are mistakes that are often made."""

_GZIP_HEAD = b"\x1f\x8b"
_PIECE = 1 << 20
"""Bytes unpacked at once: a small body may hold very many."""

_GZIPPED = (".gz", ".tgz", ".svgz")


def is_packed(header: str | None) -> bool:
    """Whether a Content-Encoding header says that the bytes are not the file's."""
    return bool(_codings(header))


async def unpack(
    chunks: AsyncGenerator[bytes, None], header: str, url: str, name: str
) -> tuple[AsyncIterator[bytes], bool]:
    """Return the file's bytes from a packed body, and whether they had to be unpacked.

    Bytes that are not packed as the header claims are taken as they are, and so are those of `name.gz`: what was packed
    once is the file itself. Raises BrokenDownload, now or on the way, for a coding that we do not know.
    """
    codings = _codings(header)
    first = await anext(chunks, b"")
    if not first or _is_plain(codings, first, name):
        return _rest(first, chunks), False
    if len(codings) > 1 or codings[0] not in ("gzip", "deflate"):
        raise BrokenDownload(f"{url[:200]}: it comes in the coding {header!r}, which was not asked for", url)
    return _unpacked(first, chunks, url), True


def _codings(header: str | None) -> list[str]:
    words = [word.strip().lower().removeprefix("x-") for word in (header or "").split(",")]
    return [word for word in words if word not in _NO_CODING]


def _is_plain(codings: list[str], first: bytes, name: str) -> bool:
    if codings == ["gzip"]:
        if not first.startswith(_GZIP_HEAD):
            return True
        return named_extension(name) in _GZIPPED and not _start(first).startswith(_GZIP_HEAD)
    return codings == ["zstd"] and not first.startswith(b"\x28\xb5\x2f\xfd")


def _start(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(packed, len(_GZIP_HEAD))
    except zlib.error:
        return b""


async def _rest(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async for chunk in chunks:
        yield chunk


async def _unpacked(first: bytes, chunks: AsyncIterator[bytes], url: str) -> AsyncGenerator[bytes, None]:
    # deflate is zlib's format by the standard, and the bare one with many a host
    unpacker = zlib.decompressobj(47 if first.startswith(_GZIP_HEAD) or _is_zlib(first) else -15)
    try:
        async for chunk in _rest(first, chunks):
            piece, packed = b"", _next_member(chunk) if unpacker.eof else chunk
            while packed or (len(piece) == _PIECE and not unpacker.eof):
                if unpacker.eof:
                    unpacker = zlib.decompressobj(31)  # gzip members may follow each other
                yield (piece := unpacker.decompress(packed, _PIECE))
                packed = _next_member(unpacker.unused_data) if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise BrokenDownload(f"{url[:200]}: it cannot be unpacked ({error})", url) from error
    if not unpacker.eof:
        raise BrokenDownload(f"{url[:200]}: what was packed ends early", url)


def _next_member(rest: bytes) -> bytes:
    """Padding behind the end is no member."""
    return rest if _GZIP_HEAD.startswith(rest[:2]) else b""


def _is_zlib(head: bytes) -> bool:
    return len(head) > 1 and head[0] & 15 == 8 and int.from_bytes(head[:2]) % 31 == 0
