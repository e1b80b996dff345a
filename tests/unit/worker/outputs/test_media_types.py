from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs.media_types import contradiction, extension


@pytest.mark.parametrize(
    ("name", "content_type", "head", "expected"),
    [
        ("out-0.PNG", "image/webp", b"RIFF", ".png"),
        ("out-0.png", "image/png", b"RIFF\x00\x0a\x00\x00WEBPVP8 ", ".webp"),  # seen: the bytes are clear
        ("out-0.png", "image/png", b"\xff\xd8\xff\xe0", ".jpg"),  # seen of google/nano-banana
        ("out-0.JPEG", "image/png", b"\xff\xd8\xff\xe0", ".jpeg"),
        ("clip.mov", None, b"\x00\x00\x00\x14ftypisom", ".mov"),
        ("clip.3gp", None, b"\x00\x00\x00\x14ftyp3gp4", ".3gp"),
        ("clip", "video/3gpp", b"\x00\x00\x00\x14ftyp3gp4", ".3gp"),
        ("weights.7z", None, b"7z\xbc\xaf\x27\x1c", ".7z"),
        ("weights.7z", None, b"", ".7z"),
        ("llama-1.5b", None, b"", ".bin"),
        ("photo.heic", None, b"\x00\x00\x00\x18ftypmsf1", ".heic"),
        ("paper.docx", None, b"PK\x03\x04", ".docx"),
        ("raw.dng", None, b"II*\x00", ".dng"),
        ("weights.tar.gz", "application/x-tar", b"\0" * 257 + b"ustar", ".tar"),
        ("rows.json.gz", None, b"[1]", ".json"),
        ("weights.tgz", None, b"weights/", ".tar"),
        ("weights.tar.gz", None, b"\x1f\x8b\x08", ".gz"),
        ("out-0.png", "text/html", b"<!DOCTYPE html><html>", ".html"),
        ("readme.txt", None, b"<html>", ".txt"),
        ("model.safetensors", None, b"", ".safetensors"),
        ("archive.tar.gz", None, b"", ".tar"),
        ("out", "image/webp", b"\x89PNG\r\n\x1a\n", ".png"),
        ("out-v1.5", "Image/JPEG; charset=x", b"", ".jpg"),
        ("out", "audio/x-wav", b"", ".wav"),
        ("out", "application/octet-stream", b"\x89PNG\r\n\x1a\n", ".png"),
        ("out", "image/x-unheard-of", b"\xff\xd8\xff\xe0", ".jpg"),
        ("out", None, b"GIF89a", ".gif"),
        ("out", None, b"RIFF\x00\x0a\x00\x00WEBPVP8 ", ".webp"),
        ("out", None, b"RIFF\x00\x00\x00\x00WAVEfmt ", ".wav"),
        ("out", None, b"\x00\x00\x00\x20ftypisom", ".mp4"),
        ("out", None, b"\x00\x00\x00\x20ftypavif", ".avif"),
        ("out", None, b"\x00\x00\x00\x14ftypqt  ", ".mov"),
        ("out", None, b"\x1a\x45\xdf\xa3\x9f\x42\x86webm", ".webm"),
        ("out", None, b"\x1a\x45\xdf\xa3matroska", ".mkv"),
        ("out", None, b"ID3\x04", ".mp3"),
        ("out", None, b"glTF\x02", ".glb"),
        ("out", None, b"%PDF-1.7", ".pdf"),
        ("out", None, b"PK\x03\x04", ".zip"),
        ("out", None, b'<?xml version="1.0"?>\n<svg xmlns="x">', ".svg"),
        ("out", None, b"plain words", ".bin"),
        ("", "", b"", ".bin"),
        ("out.", "text/plain;charset=utf-8", b"", ".txt"),
        ("out.p/g", None, b"", ".bin"),
    ],
)
def test_the_extension(name: str, content_type: str | None, head: bytes, expected: str) -> None:
    assert extension(name, content_type, head) == expected


@given(st.text(), st.none() | st.text(), st.binary(max_size=64))
def test_any_extension_is_safe_in_a_file_name(name: str, content_type: str | None, head: bytes) -> None:
    suffix = extension(name, content_type, head)
    assert suffix[0] == "."
    assert suffix[1:].isalnum()
    assert suffix.isascii()
    assert suffix == suffix.lower()
    assert len(suffix) <= 13


@pytest.mark.parametrize(
    ("name", "content_type", "head", "expected"),
    [
        ("out-0.png", "text/html; charset=utf-8", b"<!DOCTYPE html><p>We are busy", "is a .html file"),
        ("out-0.png", "application/xml", b"<Error><Code>SlowDown</Code>", "calls itself application/xml"),
        ("out-0.png", "image/png", b"\n<html><body>", "is a .html file"),
        ("voice.mp3", "application/json", b'{"detail": "no"}', "calls itself application/json"),
        ("out-0.png", None, b"\x00\x00\x00\x14ftypisom", "is a .mp4 file"),
        ("out-0.png", "image/png", b"", "is empty"),
        ("out-0.png", "text/plain", b"\x89PNG\r\n\x1a\n", None),  # a careless host, and a picture
        ("out-0.png", None, b"RIFF\x00\x0a\x00\x00WEBPVP8 ", None),
        ("clip.mp4", None, b"ID3\x04", None),
        ("voice.mp3", "text/plain", b"\xff\xe3\x18\xc4\x00", None),
        ("file_contents.svg", "text/plain", b"<!-- by hand --><g>", None),
        ("rows.json.gz", "application/json", b"[1]", None),
        ("page.html", "text/html", b"<html>", None),
        ("out", "text/html", b"<html>", None),
        ("model.safetensors", "text/plain", b"hello", None),
    ],
)
def test_something_quite_other_than_named(
    name: str, content_type: str | None, head: bytes, expected: str | None
) -> None:
    assert contradiction(name, content_type, head) == expected
