"""One picture → a small one; runs in a process of its own, which may be killed."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

SIDE = 512
"""Pixels of the longer side."""

MOST_PIXELS = 120_000_000
"""A larger picture is not opened: decoding it would take gigabytes."""

MOST_MEMORY = 3 << 30
"""Bytes of address space that the process may have."""


def limit_memory() -> None:
    """Keep a picture from taking the machine's memory; nothing where the system has no such limit."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - Windows has none

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def make_thumbnail(source: Path, target: Path) -> bool:
    """Write the thumbnail of a picture, the first frame of an animation; False when none can be made."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - loaded in the child

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with Image.open(source) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return False
            opened.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded small
            picture = ImageOps.exif_transpose(opened)
            picture.thumbnail((SIDE, SIDE))
            target.parent.mkdir(parents=True, exist_ok=True)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            picture.convert("RGBA" if has_alpha else "RGB").save(part, "WEBP", quality=80, method=2)
        part.replace(target)
    except Exception:  # noqa: BLE001 - decoders raise what they like
        return False
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return True
