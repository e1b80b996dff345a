"""One picture, or a video's first frame → a small picture; runs in a process of its own, which may be killed."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SIDE = 512
"""Pixels of the longer side."""

MOST_PIXELS = 120_000_000
"""A larger picture is not opened: decoding it would take gigabytes."""

MOST_MEMORY = 3 << 30
"""Bytes of address space that the process may have."""


VIDEOS = (".mp4", ".webm", ".mov", ".m4v", ".ogv")

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")
"""What is opened: Pillow would run Ghostscript for an EPS file, and has decoders that nobody looks after."""


def prepare() -> None:
    """Let nothing outlive the dashboard, and keep a picture from taking the machine's memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the dashboard ends its processes
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End when the dashboard does, even one that was killed: a pool's processes would wait for it for good."""
    parent.join()
    os._exit(1)


def make_thumbnail(source: Path, places: Sequence[Path]) -> Path | None:
    """Write the thumbnail of a picture, or of the first frame of what moves, to the first place that takes it.

    It is as old as its source, whatever the clock of the disk says. None when none can be made.
    """
    try:
        changed_at = source.stat().st_mtime_ns
        picture = _shrink(source)
    except Exception:  # noqa: BLE001 - decoders raise what they like
        return None
    return next((place for place in places if _save(picture, place, changed_at)), None)


def _shrink(source: Path) -> Image.Image:
    from PIL import ImageOps

    with _open(source) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError("it is too large")
        opened.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded small
        picture = ImageOps.exif_transpose(opened)
        picture.thumbnail((SIDE, SIDE))
        has_alpha = "A" in picture.getbands() or "transparency" in picture.info
        return picture.convert("RGBA" if has_alpha else "RGB")


def _save(picture: Image.Image, place: Path, changed_at: int) -> bool:
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(part, "WEBP", quality=80, method=2)
        os.utime(part, ns=(changed_at, changed_at))
        part.replace(place)
    except OSError:  # the disk is full, say, or may only be read
        return False
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return True


def _open(source: Path) -> Image.Image:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    if source.suffix.lower() not in VIDEOS:
        return Image.open(source, formats=FORMATS)
    import av

    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        if stream.width * stream.height > MOST_PIXELS:
            raise ValueError("its frames are too large")
        found: Image.Image = next(container.decode(stream)).to_image()
    return found
