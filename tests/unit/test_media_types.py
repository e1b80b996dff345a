from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.media_types import extension


@pytest.mark.parametrize(
    ("name", "content_type", "head", "expected"),
    [
        ("out-0.PNG", "image/webp", b"RIFF", ".png"),
        ("model.safetensors", None, b"", ".safetensors"),
        ("archive.tar.gz", None, b"", ".gz"),
        ("out", "image/webp", b"\x89PNG\r\n\x1a\n", ".webp"),
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
