"""Replicate's files API: upload, list, delete. One request each, no retries; uploads are streamed.

Source: the published OpenAPI document. A file is kept for a day, and `url` is its value as an input.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from jobs.errors import Unanswered
from jobs.replicate_api.client import Body, call, own_path, upload
from jobs.replicate_api.predictions import unix_time

LONGEST_NAME = 255
"""Bytes of UTF-8."""

_ID = re.compile(r"[\w-]{1,200}", re.ASCII)
_IN_PATH = re.compile(r"/files/([\w-]{1,200})(?:/|$)", re.ASCII)
_OWN_URL = re.compile(r"https?://[^/?#\s]+(?:/[^?#\s]*)?/v1/files/([\w-]{20,200})(?:/download)?(?:\?\S*)?", re.ASCII)
_SIGNATURE = re.compile(r"(signature(?:=|%3D|\\u003d))[^&\s'\"<>\\]+", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\/]')


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file at Replicate; times are Unix seconds by the API's clock, what is None was not in the answer."""

    id: str
    url: str
    created_at: float | None
    expires_at: float | None
    sha256: str | None
    metadata: Mapping[str, Any]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self | None:
        """The file of an answer; None when it is none."""
        urls, sums, metadata = (_object(body.get(name)) for name in ("urls", "checksums", "metadata"))
        file_id, url, sha256 = body.get("id"), urls.get("get"), sums.get("sha256")
        if not (isinstance(file_id, str) and _ID.fullmatch(file_id) and _is_url(url)):
            return None
        return cls(
            id=file_id,
            url=str(url),
            created_at=unix_time(body.get("created_at")),
            expires_at=unix_time(body.get("expires_at")),
            sha256=sha256.lower() if isinstance(sha256, str) else None,
            metadata=metadata,
        )


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of the list of files, newest first; `next` is the URL of the one after."""

    files: tuple[UploadedFile, ...]
    next: str | None


class Files:
    """The account's files. Methods raise the errors of `jobs.errors.ReplicateError`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def create(
        self, pieces: AsyncIterable[bytes], size: int, name: str, content_type: str, metadata: Mapping[str, Any]
    ) -> UploadedFile:
        """Upload a file of so many bytes, as they come. After Unanswered it may be there or not."""
        body = _multipart(pieces, size, safe_name(name), content_type, metadata)
        if file := UploadedFile.parse((await upload(self._client, "/v1/files", body)).body):
            return file
        raise Unanswered("the answer is not a file: it has no id or no URL")

    async def delete(self, file_id: str) -> None:
        """Delete a file; NotFound when it is gone."""
        await call(self._client, "DELETE", f"/v1/files/{quote(file_id, safe='')}")

    async def list(self, cursor: str | None = None) -> FilePage:
        """One page of the files; `cursor` is a page's `next`."""
        body = (await call(self._client, "GET", cursor or "/v1/files")).body
        rows = body.get("results")
        files = (UploadedFile.parse(row) for row in rows if isinstance(row, Mapping)) if isinstance(rows, list) else ()
        return FilePage(tuple(filter(None, files)), own_path(body.get("next")))


def file_id_in(value: Any) -> str | None:
    """The id of the file that an input's value names; None when it is no URL of one.

    Whatever its host and query are: the API may show another URL than the one that it was sent.
    """
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    found = _IN_PATH.search(parts.path)
    return found[1] if found and parts.scheme in ("http", "https") else None


def upload_in(value: Any) -> str | None:
    """The id in the URL of an upload as the API writes it, with or without a signature; None for any other value."""
    found = _OWN_URL.fullmatch(value) if isinstance(value, str) and "/v1/files/" in value else None
    return found[1] if found else None


def without_signatures(value: Any) -> Any:
    """Any JSON value as it may be stored and logged: whoever has a signed URL can read the file for a day."""
    if isinstance(value, str):
        return _SIGNATURE.sub(r"\1…", value)
    if isinstance(value, Mapping):
        return {key: without_signatures(item) for key, item in value.items()}
    return type(value)(map(without_signatures, value)) if isinstance(value, list | tuple) else value


def safe_name(name: str) -> str:
    """A file's name as a header can hold it; one that is too long keeps its extension."""
    plain = _UNSAFE.sub("_", name).encode(errors="replace")
    if len(plain) > LONGEST_NAME:
        stem, dot, extension = plain.rpartition(b".")
        end = dot + extension if stem and len(extension) < 16 else b""
        plain = plain[: LONGEST_NAME - len(end)] + end
    return plain.decode(errors="ignore")


def _multipart(
    pieces: AsyncIterable[bytes], size: int, name: str, content_type: str, metadata: Mapping[str, Any]
) -> Body:
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\nContent-Type: application/json\r\n\r\n'
        f'{json.dumps(metadata)}\r\n--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{name}"'
        f"\r\nContent-Type: {content_type}\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = len(head) + size + len(tail)
    return Body(_framed(head, pieces, tail), length, f"multipart/form-data; boundary={boundary}")


async def _framed(head: bytes, pieces: AsyncIterable[bytes], tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async for piece in pieces:
        yield piece
    yield tail


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))
