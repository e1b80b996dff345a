from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from worker.file_answer import FileAnswer

MD5 = "5d41402abc4b2a76b9719d911017c592"
GOOGLE = "crc32c=AAAAAA==, md5=XUFAKrxLKna5cZ2REBfFkg=="


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def answer(status: int = 200, **headers: str) -> FileAnswer:
    return FileAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, nothing())


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        (answer(), {"content_type": None, "start": 0, "length": None, "validator": None, "md5": None}),
        (answer(content_type="image/png", content_length="12"), {"content_type": "image/png", "length": 12}),
        (answer(content_type="", content_length="x"), {"content_type": None, "length": None}),
        (answer(content_length="-1"), {"length": None}),
        (answer(content_length="\u00b2"), {"length": None}),
        (answer(etag=f'"{MD5}"'), {"validator": f'"{MD5}"', "supposed_md5": MD5, "md5": None}),
        (answer(etag=f'"{MD5.upper()}"'), {"supposed_md5": MD5}),
        (answer(etag=f'W/"{MD5}"'), {"validator": None, "supposed_md5": None}),
        (answer(etag=f'"{MD5}-3"'), {"validator": f'"{MD5}-3"', "supposed_md5": None}),
        (answer(x_goog_hash=GOOGLE), {"md5": MD5, "supposed_md5": None}),
        (answer(x_goog_hash="crc32c=AAAAAA=="), {"md5": None}),
        (answer(x_goog_hash="md5=broken"), {"md5": None}),
        (answer(206, content_range="bytes 5-9/10", content_length="5"), {"start": 5, "length": 10}),
        (answer(206, content_range="bytes 5-9/*"), {"start": 5, "length": None}),
        (answer(206, content_length="5"), {"start": -1, "length": None}),
        (answer(206, content_range="pages 1-2/3"), {"start": -1}),
        (
            answer(content_encoding="gzip", content_length="5", etag=f'"{MD5}"', x_goog_hash=GOOGLE),
            {"encoded": True, "length": None, "validator": None, "md5": None, "supposed_md5": None},
        ),
        (answer(content_encoding="Identity", content_length="5"), {"encoded": False, "length": 5}),
    ],
)
def test_headers_tell_about_the_file(given: FileAnswer, facts: dict[str, Any]) -> None:
    assert {name: getattr(given, name) for name in facts} == facts
