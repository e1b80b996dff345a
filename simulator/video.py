"""A short AV1 video in MP4, which browsers play, made by Pillow alone.

An animated AVIF is an MP4 but for two words: the brand and the kind of its track.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from PIL import Image, features

_CONTAINERS = (b"moov", b"trak", b"mdia")


def supported() -> bool:
    """Whether this Pillow can write AVIF."""
    return bool(features.check("avif"))


def mp4(frames: list[Image.Image], milliseconds: int) -> bytes:
    """The frames as a video, each shown for the same time."""
    stream = io.BytesIO()
    frames[0].save(
        stream,
        "AVIF",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        quality=60,
        speed=10,
        max_threads=1,
    )
    data = bytearray(stream.getvalue())
    data[8:12] = b"isom"
    for kind, start in _boxes(data, 0, len(data)):
        if kind == b"hdlr" and data[start + 8 : start + 12] == b"pict":
            data[start + 8 : start + 12] = b"vide"
        if kind in (b"mvhd", b"tkhd", b"mdhd"):
            times = 16 if data[start] else 8
            data[start + 4 : start + 4 + times] = bytes(times)
    return bytes(data)


def _boxes(data: bytearray, start: int, stop: int) -> Iterator[tuple[bytes, int]]:
    """Each box: its kind and where its content starts."""
    while start < stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        yield kind, start + 8
        if kind in _CONTAINERS:
            yield from _boxes(data, start + 8, start + size)
        start += size
