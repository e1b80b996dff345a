from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs import data_uri


@pytest.mark.parametrize(
    ("text", "content_type", "content"),
    [
        ("data:image/png;base64,iVBORw0K", "image/png", b"\x89PNG\r\n"),
        ("data:image/png;base64,iVBO\nRw0K ", "image/png", b"\x89PNG\r\n"),
        ("data:image/png;base64,iVBORw0%4B", "image/png", b"\x89PNG\r\n"),
        ("DATA:image/png;BASE64,iVBORw0K", "image/png", b"\x89PNG\r\n"),
        ("data:image/png; base64,iVBORw0K", "image/png", b"\x89PNG\r\n"),
        ("data:application/octet-stream;base64,_-8", "application/octet-stream", b"\xff\xef"),
        ("data:application/octet-stream;base64,/+8%3D", "application/octet-stream", b"\xff\xef"),
        ("data:text/plain;charset=utf-8;base64,w6k=", "text/plain;charset=utf-8", "é".encode()),
        ("data:text/plain;charset=utf-8,%C3%A9", "text/plain;charset=utf-8", "é".encode()),
        ("data:text/plain,a%20b+c%2C,d", "text/plain", b"a b+c,,d"),
        ("data:,plain", "text/plain;charset=US-ASCII", b"plain"),
        ("data:,", "text/plain;charset=US-ASCII", b""),
        ("data:;charset=utf-8,x", "text/plain;charset=utf-8", b"x"),
        ("data:;base64,eA==", "text/plain;charset=US-ASCII", b"x"),
        ("data:image/svg+xml;utf8,<svg a='1'/>", "image/svg+xml;utf8", b"<svg a='1'/>"),
        ('data:text/plain;name="a,b",x', 'text/plain;name="a,b"', b"x"),
        ("data:text/plain,\ud800", "text/plain", b"\xed\xa0\x80"),
        ("data:text/plain,base64,eA", "text/plain", b"base64,eA"),
    ],
)
def test_reads(text: str, content_type: str, content: bytes) -> None:
    parsed = data_uri.parse(text)
    assert parsed
    assert (parsed.content_type, parsed.content) == (content_type, content)
    assert text.startswith(parsed.head)
    assert parsed.head.endswith(",")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:image/png;base64",
        "data: the new oil, they say",
        "data:png,x",
        "data:image/png base64,x",
        "data:image/png;base64,iVBO*w0K",
        "data:image/png;base64,iVBOR",
        "data:image/png;base64,é",
        "https://replicate.delivery/data:,x",
    ],
)
def test_what_does_not_decode_is_no_data_uri(text: str) -> None:
    assert data_uri.parse(text) is None


@given(
    content=st.binary(),
    in_base64=st.booleans(),
    media_type=st.sampled_from(["image/png", "", "text/plain;charset=utf-8"]),
)
def test_any_bytes_come_back_from_both_encodings(content: bytes, *, in_base64: bool, media_type: str) -> None:
    payload = base64.b64encode(content).decode() if in_base64 else quote(content)
    parsed = data_uri.parse(f"data:{media_type}{';base64' if in_base64 else ''},{payload}")
    assert parsed
    assert parsed.content == content
    assert parsed.content_type == (media_type or data_uri.DEFAULT_MEDIA_TYPE)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    data_uri.parse(f"data:{text}")
    data_uri.parse(f"data:image/png;base64,{text}")
    parsed = data_uri.parse(f"data:text/plain,{text}")
    assert parsed
    assert "%" in text or parsed.content == text.encode("utf-8", "surrogatepass")
