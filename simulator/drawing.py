"""Bytes of output files: drawn from a seed, so that the same seed gives the same bytes."""

from __future__ import annotations

import io
import math
import struct
import textwrap
import wave
import zipfile
from random import Random

from PIL import Image, ImageDraw, ImageFont


def picture(seed: str, caption: str, size: tuple[int, int]) -> Image.Image:
    """A soft gradient with translucent discs and the caption at its foot."""
    dice = Random(seed)
    hue = dice.randrange(256)
    colours = ((hue + dice.randrange(-30, 56), dice.randrange(90, 200), dice.randrange(90, 256)) for _ in range(16))
    corners = Image.frombytes("HSV", (4, 4), bytes(part % 256 for colour in colours for part in colour))
    image = corners.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image, "RGBA")
    width, height = size
    for _ in range(dice.randrange(6, 13)):
        x, y, radius = dice.random() * width, dice.random() * height, dice.uniform(0.04, 0.28) * min(size)
        shade = (dice.randrange(256), dice.randrange(256), dice.randrange(256), dice.randrange(40, 120))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    _write(draw, caption, size)
    return image


def _write(draw: ImageDraw.ImageDraw, caption: str, size: tuple[int, int]) -> None:
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


def encoded(image: Image.Image, form: str) -> bytes:
    """The image as `png`, `webp` or `jpg`."""
    stream = io.BytesIO()
    if form == "png":
        image.save(stream, "PNG", compress_level=1)
    elif form == "webp":
        image.save(stream, "WEBP", quality=80, method=0)
    else:
        image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def enlarged(data: bytes, scale: int) -> bytes:
    """The image in `data`, `scale` times as large, as PNG."""
    with Image.open(io.BytesIO(data)) as image:
        size = (image.width * scale, image.height * scale)
        return encoded(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), "png")


def is_image(data: bytes) -> bool:
    """Whether Pillow can read it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
    except Exception:  # noqa: BLE001  # Pillow's decoders raise whatever they like
        return False
    return True


def frames(seed: str, caption: str, size: tuple[int, int]) -> list[Image.Image]:
    """Two pictures and six blends between them."""
    first, last = (picture(f"{seed}:{number}", caption, size) for number in range(2))
    return [Image.blend(first, last, number / 7) for number in range(8)]


def gif(images: list[Image.Image], milliseconds: int) -> bytes:
    """The images as an animated GIF, each shown for the same time."""
    stream = io.BytesIO()
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return stream.getvalue()


def melody(seed: str, seconds: float, rate: int = 8000) -> bytes:
    """A WAV, mono, 16 bit: a few notes of a pentatonic scale."""
    dice = Random(seed)
    length = max(1, int(seconds * rate))
    per_note = max(1, rate // 4)
    samples = bytearray()
    for start in range(0, length, per_note):
        frequency = 220 * 2 ** (dice.choice((0, 2, 4, 7, 9, 12, 14)) / 12)
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


def archive(members: dict[str, bytes]) -> bytes:
    """A zip file of the members, with a fixed date."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()
