from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from worker.outputs import file_response
from worker.outputs.file_response import Checksum, FileResponse

MD5 = "5d41402abc4b2a76b9719d911017c592"
GOOGLE = "crc32c=yZRlqg==, md5=XUFAKrxLKna5cZ2REBfFkg=="
CRC32C = Checksum("crc32c", bytes.fromhex("c99465aa"))
DECLARED = Checksum("md5", bytes.fromhex(MD5))
SUPPOSED = replace(DECLARED, sure=False)


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def answer(status: int = 200, **headers: str) -> FileResponse:
    return FileResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, nothing())


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        (answer(), {"content_type": None, "start": 0, "length": None, "validator": None, "checksum": None}),
        (answer(content_type="image/png", content_length="12"), {"content_type": "image/png", "length": 12}),
        (answer(content_type="", content_length="x"), {"content_type": None, "length": None}),
        (answer(content_length="-1"), {"length": None}),
        (answer(content_length="\u00b2"), {"length": None}),
        (answer(etag=f'"{MD5}"'), {"validator": f'"{MD5}"', "checksum": SUPPOSED}),
        (answer(etag=f'"{MD5.upper()}"'), {"checksum": SUPPOSED}),
        (answer(etag=f'W/"{MD5}"'), {"validator": None, "checksum": None}),
        (answer(etag=f'"{MD5}-3"'), {"validator": f'"{MD5}-3"', "checksum": None}),
        (answer(x_goog_hash=GOOGLE, etag=f'"{MD5}"'), {"checksum": CRC32C}),
        (answer(x_goog_hash=GOOGLE.partition(", ")[2], etag='"x"'), {"checksum": DECLARED}),
        (answer(x_goog_hash="crc32c=yZRlqg=="), {"checksum": CRC32C}),
        (answer(x_goog_hash="crc32c=broken, md5=XUFAKrxLKna5cZ2REBfFkg=="), {"checksum": DECLARED}),
        (answer(x_goog_hash="md5=broken"), {"checksum": None}),
        (answer(206, content_range="bytes 5-9/10", content_length="5"), {"start": 5, "length": 10}),
        (answer(206, content_range="bytes 5-9/*"), {"start": 5, "length": None}),
        (answer(206, content_length="5"), {"start": -1, "length": None}),
        (answer(206, content_range="pages 1-2/3"), {"start": -1}),
        (
            replace(
                answer(content_encoding="gzip", content_length="5", etag=f'"{MD5}"', x_goog_hash=GOOGLE), packed=True
            ),
            {"repacked": True, "length": None, "validator": None, "checksum": None},
        ),
        (answer(content_encoding="Identity", content_length="5"), {"repacked": False, "length": 5}),
        (  # Google's storage keeps it zipped, and unzips it on its way
            answer(
                x_goog_stored_content_encoding="gzip",
                x_guploader_response_body_transformations="gunzipped",
                etag=f'"{MD5}"',
                x_goog_hash=GOOGLE,
            ),
            {"repacked": True, "validator": None, "checksum": None},
        ),
        (answer(x_goog_stored_content_encoding="gzip", x_goog_hash=GOOGLE), {"checksum": None}),
        (answer(x_goog_stored_content_encoding="identity", x_goog_hash=GOOGLE), {"checksum": CRC32C}),
        (  # it stays zipped
            answer(x_goog_stored_content_encoding="gzip", content_encoding="gzip", x_goog_hash=GOOGLE),
            {"repacked": False, "checksum": CRC32C},
        ),
    ],
)
def test_headers_tell_about_the_file(given: FileResponse, facts: dict[str, Any]) -> None:
    assert {name: getattr(given, name) for name in facts} == facts


def test_without_a_compiled_crc32c_the_md5_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take 300 ms a MiB."""
    monkeypatch.setattr(file_response, "CRC32C_IS_CHEAP", False)
    assert answer(x_goog_hash=GOOGLE).checksum == DECLARED
    assert answer(x_goog_hash="crc32c=yZRlqg==").checksum is None
