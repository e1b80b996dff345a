"""What a file is by its first bytes, its content type and its name: a fixed table, the same on every machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

UNKNOWN = ".bin"

_BY_TYPE = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/ogg": ".ogg",
    "application/pdf": ".pdf",
    "application/wasm": ".wasm",
    "application/x-7z-compressed": ".7z",
    "application/x-gzip": ".gz",
    "application/x-ndjson": ".jsonl",
    "application/x-subrip": ".srt",
    "application/x-tar": ".tar",
    "application/x-yaml": ".yaml",
    "application/x-zip-compressed": ".zip",
    "application/xml": ".xml",
    "application/yaml": ".yaml",
    "application/zip": ".zip",
    "audio/aac": ".aac",
    "audio/aiff": ".aiff",
    "audio/flac": ".flac",
    "audio/midi": ".mid",
    "audio/mp3": ".mp3",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/opus": ".opus",
    "audio/vnd.wave": ".wav",
    "audio/wav": ".wav",
    "audio/wave": ".wav",
    "audio/webm": ".weba",
    "audio/x-aiff": ".aiff",
    "audio/x-flac": ".flac",
    "audio/x-m4a": ".m4a",
    "audio/x-midi": ".mid",
    "audio/x-wav": ".wav",
    "image/apng": ".apng",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/jxl": ".jxl",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/vnd.microsoft.icon": ".ico",
    "image/webp": ".webp",
    "image/x-exr": ".exr",
    "image/x-icon": ".ico",
    "model/gltf+json": ".gltf",
    "model/gltf-binary": ".glb",
    "model/obj": ".obj",
    "model/stl": ".stl",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/vtt": ".vtt",
    "text/xml": ".xml",
    "video/3gpp": ".3gp",
    "video/3gpp2": ".3g2",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}

_TYPES = {extension: type_ for type_, extension in reversed(_BY_TYPE.items())} | {
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".wav": "audio/wav",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}
"""The usual type of each extension."""

Kind = Literal["image", "audio", "video", "model", "archive", "document", "page"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that its first bytes tell; `names` are the extensions of files that begin so, the usual one first."""

    kind: Kind
    head: re.Pattern[bytes]
    names: tuple[str, ...]


def _format(kind: Kind, head: bytes, *names: str) -> Format:
    return Format(kind, re.compile(head, re.DOTALL), names)


_FORMATS = (
    _format("image", rb"\x89PNG\r\n\x1a\n", ".png", ".apng"),
    _format("image", rb"\xff\xd8\xff", ".jpg", ".jpeg", ".jpe", ".jfif"),
    _format("image", rb"GIF8[79]a", ".gif"),
    _format("image", rb"RIFF....WEBP", ".webp"),
    _format("audio", rb"RIFF....WAVE", ".wav", ".wave"),
    _format("video", rb"RIFF....AVI ", ".avi"),
    _format("image", rb"....ftypavi[fs]", ".avif"),
    _format("image", rb"....ftyp(hei[csxm]|hev[cx]|mif1|msf1)", ".heic", ".heif"),
    _format("video", rb"....ftypqt  ", ".mov", ".qt", ".mp4", ".m4v"),
    _format("audio", rb"....ftypM4[AB]", ".m4a", ".m4b", ".mp4"),
    _format("video", rb"....ftyp3g", ".3gp", ".3g2", ".mp4", ".m4a"),
    _format("video", rb"....ftyp", ".mp4", ".m4v", ".m4a", ".mov", ".3gp", ".3g2", ".f4v"),
    _format("video", rb"\x1a\x45\xdf\xa3.*webm", ".webm", ".weba", ".mkv", ".mka"),
    _format("video", rb"\x1a\x45\xdf\xa3", ".mkv", ".mka", ".webm", ".weba"),
    _format("audio", rb"OggS", ".ogg", ".oga", ".ogv", ".ogx", ".opus", ".spx"),
    _format("audio", rb"fLaC", ".flac"),
    _format("audio", rb"ID3|\xff[\xfb\xf3\xf2]", ".mp3", ".mp2", ".aac"),
    _format("image", rb"II\*\x00|MM\x00\*", ".tiff", ".tif"),
    _format("model", rb"glTF", ".glb"),
    _format("document", rb"%PDF-", ".pdf"),
    _format("archive", rb"PK\x03\x04", ".zip"),
    _format("archive", rb"\x1f\x8b", ".gz", ".tgz", ".svgz"),
    _format("archive", rb"7z\xbc\xaf\x27\x1c", ".7z"),
    _format("archive", rb".{257}ustar", ".tar"),
    _format("image", rb"\s*(<\?xml[^>]*>\s*)?<svg[\s>]", ".svg"),
    _format("page", rb"(?i:(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head)[\s>])", ".html", ".htm"),
)
_BY_NAME = {name: format_.kind for format_ in reversed(_FORMATS) for name in reversed(format_.names)}

_DATA = {".bin", ".ckpt", ".fbx", ".npy", ".npz", ".ply", ".pt", ".pth", ".safetensors", ".usdz"}
_OUTPUTS = _DATA | _BY_NAME.keys() | set(_BY_TYPE.values())

HEAD_SIZE = 512
"""Bytes of a file that tell its format."""

_IN_NAME = re.compile(r"\.([A-Za-z][A-Za-z0-9]{0,11}|7z|3gp|3g2|3mf|3ds)$", re.IGNORECASE)
_WRAPPED = {".gz": "", ".tgz": ".tar", ".svgz": ".svg"}
_TEXT = re.compile(r"text/|application/(.+\+)?(json|xml)$|application/xhtml")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_CONTAINED = {"audio", "video"}  # they share their containers


def extension(name: str, content_type: str | None, head: bytes) -> str:
    """Return `.png`, say: what the first 512 bytes clearly are, else as the URL or the content type says, else `.bin`.

    An extension that names no format of ours stays: many formats are a zip or a tiff inside.
    """
    found = _format_of(head)
    said = named_extension(name) or _BY_TYPE.get(_media_type(content_type), "")
    if found:
        return said if said in found.names or (said and said not in _BY_NAME) else found.names[0]
    if said in _WRAPPED:  # the bytes were unzipped on their way
        return _WRAPPED[said] or named_extension(name[: -len(said)]) or UNKNOWN
    return said or UNKNOWN


def media_type(name: str, head: bytes) -> str:
    """The content type of a file: what its first bytes clearly are, else as its name says."""
    found = _format_of(head)
    usual = _TYPES.get(found.names[0]) if found else None
    return _TYPES.get(extension(name, None, head)) or usual or "application/octet-stream"


def contradiction(name: str, content_type: str | None, head: bytes) -> str | None:
    """Say what a file is if that is something quite other than its URL's name promises, such as a page for a picture.

    A picture in another format is still a picture.
    """
    named, found = named_extension(name), _format_of(head)
    expected, media_type = _BY_NAME.get(named), _media_type(content_type)
    if expected in (None, "page"):
        return None
    if found:
        return None if found.kind == expected or {found.kind, expected} == _CONTAINED else f"is a {found.names[0]} file"
    if not head:
        return "is empty"
    readable = named != ".svg" and expected != "archive" and not _CONTROL.search(head)
    return f"calls itself {media_type}" if readable and _TEXT.match(media_type) else None


def names_a_file(name: str) -> bool:
    """Whether a name has the extension of something that a model makes, a page excepted."""
    named = named_extension(name)
    return named in _OUTPUTS and _BY_NAME.get(named) != "page"


def named_extension(name: str) -> str:
    """The extension in a file's name, in lower case with its dot; empty when there is none."""
    match = _IN_NAME.search(name)
    return match[0].lower() if match else ""


def _format_of(head: bytes) -> Format | None:
    return next((format_ for format_ in _FORMATS if format_.head.match(head)), None)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()
