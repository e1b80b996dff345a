from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.replicate_api.files import LONGEST_NAME, UploadedFile, file_id_in, safe_name, without_signatures

BODY: dict[str, Any] = {
    "id": "abc",
    "urls": {"get": "https://api.replicate.com/v1/files/abc"},
    "created_at": "2024-02-21T12:54:18.578761Z",
    "expires_at": "2024-02-22T12:54:18.578761Z",
    "checksums": {"sha256": "AB" * 32},
    "metadata": {"batch": "b1"},
}


def test_a_file_is_read() -> None:
    file = UploadedFile.parse(BODY)
    assert file
    assert (file.id, file.url, file.sha256) == ("abc", BODY["urls"]["get"], "ab" * 32)
    assert (file.created_at, file.expires_at, file.metadata) == (1708520058.578761, 1708606458.578761, {"batch": "b1"})


@pytest.mark.parametrize("name", ["created_at", "expires_at", "checksums", "metadata"])
@pytest.mark.parametrize("value", [None, 7, "nonsense", []])
def test_only_its_id_and_url_are_needed(name: str, value: Any) -> None:
    file = UploadedFile.parse(BODY | {name: value})
    assert file
    found = {"created_at": file.created_at, "expires_at": file.expires_at, "checksums": file.sha256}
    assert not (found | {"metadata": file.metadata})[name]


@pytest.mark.parametrize(
    "changed", [{"id": None}, {"id": "a/../b"}, {"id": ""}, {"urls": None}, {"urls": {"get": "ftp://a/files/abc"}}]
)
def test_without_id_or_url_it_is_no_file(changed: dict[str, Any]) -> None:
    assert UploadedFile.parse(BODY | changed) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("https://api.replicate.com/v1/files/abc", "abc"),
        ("https://api.replicate.com/v1/files/abc/download?expiry=1&owner=x&signature=a%2Fb", "abc"),
        ("http://127.0.0.1:9/replicate/v1/files/abc/", "abc"),
        ("https://example.com/files/abc.png", None),
        ("https://example.com/myfiles/abc", None),
        ("https://example.com/?/files/abc", None),
        ("/v1/files/abc", None),
        ("https://[::1/files/abc", None),
        ({"$file": "/files/abc"}, None),
        (None, None),
    ],
)
def test_the_id_in_an_input(value: Any, found: str | None) -> None:
    assert file_id_in(value) == found


@given(st.text(st.characters(), max_size=400))
def test_any_name_fits_into_a_header(name: str) -> None:
    safe = safe_name(name)
    assert len(safe.encode()) <= LONGEST_NAME
    assert not set(safe) & set('\r\n\0"\\')


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name(f"{'ü' * 300}.png").endswith("ü.png")
    assert safe_name("Grüße.png") == "Grüße.png"
    assert safe_name('a"b\r\n.png') == "a_b__.png"
    assert safe_name(f"{'a' * 300}.{'b' * 300}") == "a" * LONGEST_NAME


@pytest.mark.parametrize(
    "before",
    ["&signature=", "?signature=", "&amp;signature=", "\\u0026signature=", "%26signature%3D", "X-Goog-Signature="],
)
def test_signatures_are_masked_as_messages_quote_them(before: str) -> None:
    assert without_signatures(f'no url: "https://a/b{before}wfYri%252Bb"') == f'no url: "https://a/b{before}…"'


def test_signatures_are_masked_wherever_they_stand() -> None:
    url = f"{BODY['urls']['get']}/download?expiry=1&owner=x&signature=a%2Fb%253D"
    masked = f"{BODY['urls']['get']}/download?expiry=1&owner=x&signature=…"
    assert without_signatures({"error": f"cannot open '{url}'!", "input": [url, 7, ("x", None)]}) == {
        "error": f"cannot open '{masked}'!", "input": [masked, 7, ("x", None)],
    }  # fmt: skip
