"""The contents of output files, generated from a seed: the same seed gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import textwrap
import wave
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw, ImageFont, features

_TAIL = 64
_BLOCK = 1 << 16
_CONTAINERS = (b"moov", b"trak", b"mdia")


def draw_picture(seed: str, caption: str, size: tuple[int, int]) -> Image.Image:
    """A soft gradient with translucent discs and the caption at its foot."""
    random = Random(seed)
    hue = random.randrange(256)
    colours = (
        (hue + random.randrange(-30, 56), random.randrange(90, 200), random.randrange(90, 256)) for _ in range(16)
    )
    corners = Image.frombytes("HSV", (4, 4), bytes(part % 256 for colour in colours for part in colour))
    image = corners.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image, "RGBA")
    width, height = size
    for _ in range(random.randrange(6, 13)):
        x, y, radius = random.random() * width, random.random() * height, random.uniform(0.04, 0.28) * min(size)
        shade = (random.randrange(256), random.randrange(256), random.randrange(256), random.randrange(40, 120))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    _write_caption(draw, caption, size)
    return image


def _write_caption(draw: ImageDraw.ImageDraw, caption: str, size: tuple[int, int]) -> None:
    width, height = size
    points = max(10, height // 20)
    lines = textwrap.wrap(caption, max(8, int(width / (points * 0.55))))[:3]
    if not lines:
        return
    top = height - int((len(lines) * 1.3 + 0.6) * points)
    draw.rectangle((0, top, width, height), fill=(0, 0, 0, 110))
    draw.multiline_text(
        (points * 0.6, top + points * 0.3), "\n".join(lines), fill="white", font=ImageFont.load_default(points)
    )


def encode_image(image: Image.Image, form: str) -> bytes:
    """The image as `png`, `webp` or `jpg`."""
    stream = io.BytesIO()
    if form == "png":
        image.save(stream, "PNG", compress_level=1)
    elif form == "webp":
        image.save(stream, "WEBP", quality=80, method=0)
    else:
        image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def enlarge_image(data: bytes, scale: int) -> bytes:
    """The image in `data`, `scale` times as large, as PNG."""
    with Image.open(io.BytesIO(data)) as image:
        size = (image.width * scale, image.height * scale)
        return encode_image(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), "png")


def join_images(contents: list[bytes]) -> bytes:
    """The images in a row, as PNG; one black pixel if there is none."""
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in contents]
    width, height = sum(image.width for image in images), max((image.height for image in images), default=1)
    row = Image.new("RGB", (width or 1, height))
    for number, image in enumerate(images):
        row.paste(image, (sum(before.width for before in images[:number]), 0))
    return encode_image(row, "png")


def is_image(data: bytes) -> bool:
    """Whether Pillow can read it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
    except Exception:  # noqa: BLE001  # Pillow's decoders raise whatever they like
        return False
    return True


def draw_frames(seed: str, caption: str, size: tuple[int, int]) -> list[Image.Image]:
    """Two pictures and six blends between them."""
    first, last = (draw_picture(f"{seed}:{number}", caption, size) for number in range(2))
    return [Image.blend(first, last, number / 7) for number in range(8)]


def encode_gif(images: list[Image.Image], milliseconds: int) -> bytes:
    """The images as an animated GIF, each shown for the same time."""
    stream = io.BytesIO()
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return stream.getvalue()


def synthesize_melody(seed: str, seconds: float, rate: int = 8000) -> bytes:
    """A WAV, mono, 16 bit: a few notes of a pentatonic scale."""
    random = Random(seed)
    length = max(1, int(seconds * rate))
    per_note = max(1, rate // 4)
    samples = bytearray()
    for start in range(0, length, per_note):
        frequency = 220 * 2 ** (random.choice((0, 2, 4, 7, 9, 12, 14)) / 12)
        count = min(per_note, length - start)
        turn = 2 * math.pi * frequency / rate
        samples += struct.pack(
            f"<{count}h", *(int(9000 * math.sin(turn * i) * (1 - i / per_note)) for i in range(count))
        )
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(samples))
    return stream.getvalue()


def zip_files(members: dict[str, bytes]) -> bytes:
    """A zip file of the members, with a fixed date."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def can_encode_mp4() -> bool:
    """Whether this Pillow can write AVIF, which `encode_mp4` needs."""
    return bool(features.check("avif"))


def encode_mp4(frames: list[Image.Image], milliseconds: int) -> bytes:
    """The frames as an AV1 video in MP4, which browsers play; each is shown for the same time.

    An animated AVIF is an MP4 except for two words: the brand and the kind of its track.
    """
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


def random_bytes(seed: str, size: int) -> bytes:
    """`size` bytes that differ from seed to seed, but only in the last 64: so they cost little."""
    return _equal_part(size)[0] + _tail(seed, size)


def random_bytes_md5(seed: str, size: int) -> bytes:
    """The md5 of `random_bytes(seed, size)`."""
    state = _equal_part(size)[1].copy()
    state.update(_tail(seed, size))
    return state.digest()


@lru_cache(maxsize=4)
def _equal_part(size: int) -> tuple[bytes, hashlib._Hash]:
    length = max(0, size - _TAIL)
    data = (Random(0).randbytes(_BLOCK) * (length // _BLOCK + 1))[:length]
    return data, hashlib.md5(data, usedforsecurity=False)


def _tail(seed: str, size: int) -> bytes:
    return Random(seed).randbytes(min(size, _TAIL))
