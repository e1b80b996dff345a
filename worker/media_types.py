"""File name extensions: a fixed table, so that they do not vary from machine to machine."""

from __future__ import annotations

import re

UNKNOWN = ".bin"

_BY_TYPE = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/jsonl": ".jsonl",
    "application/ogg": ".ogg",
    "application/pdf": ".pdf",
    "application/wasm": ".wasm",
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
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}

_BY_HEAD = [
    (re.compile(pattern, re.DOTALL), suffix)
    for pattern, suffix in (
        (rb"\x89PNG\r\n\x1a\n", ".png"),
        (rb"\xff\xd8\xff", ".jpg"),
        (rb"GIF8[79]a", ".gif"),
        (rb"RIFF....WEBP", ".webp"),
        (rb"RIFF....WAVE", ".wav"),
        (rb"RIFF....AVI ", ".avi"),
        (rb"....ftyp(avif|avis)", ".avif"),
        (rb"....ftyp(heic|heix|mif1)", ".heic"),
        (rb"....ftypqt  ", ".mov"),
        (rb"....ftypM4A", ".m4a"),
        (rb"....ftyp", ".mp4"),
        (rb"\x1a\x45\xdf\xa3.*webm", ".webm"),
        (rb"\x1a\x45\xdf\xa3", ".mkv"),
        (rb"OggS", ".ogg"),
        (rb"fLaC", ".flac"),
        (rb"ID3|\xff[\xfb\xf3\xf2]", ".mp3"),
        (rb"II\*\x00|MM\x00\*", ".tiff"),
        (rb"glTF", ".glb"),
        (rb"%PDF-", ".pdf"),
        (rb"PK\x03\x04", ".zip"),
        (rb"\x1f\x8b", ".gz"),
        (rb"\s*(<\?xml[^>]*>\s*)?<svg[\s>]", ".svg"),
    )
]

_IN_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,11}$")


def extension(name: str, content_type: str | None, head: bytes) -> str:
    """Return `.png`, say: the URL's own extension, else by content type, else by the first bytes, else `.bin`."""
    if match := _IN_NAME.search(name):
        return match[0].lower()
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if suffix := _BY_TYPE.get(media_type):
        return suffix
    return next((suffix for pattern, suffix in _BY_HEAD if pattern.match(head)), UNKNOWN)
