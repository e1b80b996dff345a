"""What a file is by the end of its name, and which files of a folder nobody means."""

from __future__ import annotations

from pathlib import PurePath

_KINDS = {
    "picture": "png jpg jpeg jpe jfif webp gif avif heic heif bmp tif tiff jxl svg",
    "video": "mp4 mov webm mkv avi m4v mpg mpeg ogv",
    "audio file": "wav mp3 m4a aac flac ogg oga opus aif aiff",
}
_KIND_OF = {f".{suffix}": kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}

_OF_SYSTEMS = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"))


def media_kind(name: str) -> str | None:
    """`picture`, `video` or `audio file`; None for any other file, such as a caption or a raw photograph."""
    return _KIND_OF.get(PurePath(name).suffix.lower())


def is_of_system(name: str) -> bool:
    """Whether a program left the file there: `.DS_Store`, `._cat.png` of macOS, `Thumbs.db`, `@eaDir` of a NAS."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS
