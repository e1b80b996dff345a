from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from simulator.process import RunningSimulator


@pytest.fixture
def upload(api: httpx.Client) -> dict[str, Any]:
    answer = api.post(
        "/v1/files", files={"content": ("a.txt", b"hello", "text/plain")}, data={"metadata": '{"customer": 1}'}
    )
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


def test_an_upload_is_described(api: httpx.Client, upload: dict[str, Any]) -> None:
    assert upload["checksums"]["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert upload["etag"] == upload["checksums"]["md5"] == hashlib.md5(b"hello", usedforsecurity=False).hexdigest()
    assert (upload["name"], upload["size"], upload["content_type"]) == ("a.txt", 5, "text/plain")
    assert upload["metadata"] == {"customer": 1}
    assert api.get(upload["urls"]["get"]).json() == upload
    assert api.get("/v1/files").json() == {"next": None, "previous": None, "results": [upload]}


def test_it_can_be_downloaded(api: httpx.Client, upload: dict[str, Any]) -> None:
    answer = api.get(f"{upload['urls']['get']}/download?owner=simulator")
    assert (answer.content, answer.headers["content-type"]) == (b"hello", "text/plain")


def test_it_can_be_deleted_once(api: httpx.Client, upload: dict[str, Any]) -> None:
    assert [api.delete(upload["urls"]["get"]).status_code for _ in range(2)] == [204, 404]
    assert api.get(upload["urls"]["get"]).json()["detail"] == "File not found"


def test_it_expires_after_a_day(plain: RunningSimulator, api: httpx.Client, upload: dict[str, Any]) -> None:
    plain.advance(24 * 3600 - 60)
    assert api.get(upload["urls"]["get"]).status_code == 200
    plain.advance(61)
    assert api.get(upload["urls"]["get"]).status_code == 404
    assert api.get("/v1/files").json()["results"] == []


@pytest.mark.parametrize("size", [101, 50_000])
def test_a_large_one_is_413(plain: RunningSimulator, api: httpx.Client, size: int) -> None:
    plain.settings(max_upload=100)
    answer = api.post("/v1/files", files={"content": ("a.bin", bytes(size))})
    assert (answer.status_code, answer.json()["detail"]) == (413, "Files must be less than 100MB in size")
    assert api.post("/v1/files", files={"content": ("a.bin", bytes(100))}).status_code == 201


def test_content_is_required(api: httpx.Client) -> None:
    answer = api.post("/v1/files", data={"content": "text"}, files={"other": b"x"})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "content")


@pytest.mark.parametrize("metadata", ["{", "[]", "1"])
def test_metadata_is_a_json_object(api: httpx.Client, metadata: str) -> None:
    answer = api.post("/v1/files", files={"content": b"x"}, data={"metadata": metadata})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "metadata")
