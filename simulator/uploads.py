"""Files that the user uploaded: they are there for a day, with their contents in one unnamed file on disk."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

from simulator.answers import timestamp

if TYPE_CHECKING:
    from simulator.predictions import Prediction

LIFETIME = 24 * 3600.0
PAGE = 100
_OWNER = "simulator"
_KEY = secrets.token_bytes(32)
_PATH = re.compile(r"/v1/files/(\w+)(/download)?$")
_CHUNK = 1 << 20


@dataclass(slots=True, kw_only=True, eq=False)
class Upload:
    """One uploaded file; `start` is the place of its content, `hidden` are fields that its JSON lacks."""

    name: str
    content_type: str
    metadata: dict[str, Any]
    created: float
    expires: float
    size: int
    start: int
    sha256: str = ""
    md5: str = ""
    signed: bool = False
    hidden: frozenset[str] = frozenset()
    deleted: float | None = None
    users: list[Prediction] = field(default_factory=list)
    id: str = field(default_factory=lambda: base64.b64encode(str(uuid.uuid4()).encode()).decode())

    def is_there(self, now: float) -> bool:
        """Whether it is neither deleted nor expired."""
        return self.deleted is None and now < self.expires

    def body(self, api: str) -> dict[str, Any]:
        """The file as the API shows it."""
        fields = {
            "id": self.id,
            "name": self.name,
            "content_type": self.content_type,
            "size": self.size,
            "etag": self.md5,
            "checksums": {"sha256": self.sha256, "md5": self.md5},
            "metadata": self.metadata,
            "created_at": timestamp(self.created, 3),
            "expires_at": timestamp(self.expires, 3),
            "urls": {"get": self.signed_url(api, self.expires) if self.signed else f"{api}/v1/files/{self.id}"},
        }
        return {name: value for name, value in fields.items() if name not in self.hidden}

    def signed_url(self, api: str, expiry: float) -> str:
        """A URL of its content that needs no token."""
        signature = quote(_signature(self.id, int(expiry)), safe="")
        return f"{api}/v1/files/{self.id}/download?expiry={int(expiry)}&owner={_OWNER}&signature={signature}"

    def shown_url(self, api: str, expiry: float) -> str:
        """The URL that a prediction's input shows in place of the one that was sent: its signature is quoted twice."""
        head, _, signature = self.signed_url(api, expiry).rpartition("=")
        return f"{head}={quote(signature, safe='')}"


class Uploads:
    """All uploads there ever were, by id."""

    def __init__(self) -> None:
        self._all: dict[str, Upload] = {}
        self._contents = tempfile.TemporaryFile()  # noqa: SIM115  # for the life of the process
        self._end = 0

    def clear(self) -> None:
        """Forget everything."""
        self._all.clear()
        self._contents.truncate(0)
        self._end = 0

    def reserve(self, size: int) -> int:
        """The place of a content of that size."""
        self._end += size
        return self._end - size

    def write(self, upload: Upload, content: BinaryIO, *, damaged: bool) -> None:
        """Store the content, hash it, and add the upload; damaged, its first byte is another."""
        sha256, md5, at = hashlib.sha256(), hashlib.md5(usedforsecurity=False), upload.start
        while chunk := content.read(_CHUNK):
            if damaged and at == upload.start:
                chunk = bytes([chunk[0] ^ 255]) + chunk[1:]
            os.pwrite(self._contents.fileno(), chunk, at)
            sha256.update(chunk)
            md5.update(chunk)
            at += len(chunk)
        upload.sha256, upload.md5 = sha256.hexdigest(), md5.hexdigest()
        self._all[upload.id] = upload

    def read(self, upload: Upload) -> bytes:
        """The whole content, even of an upload that was deleted."""
        return os.pread(self._contents.fileno(), upload.size, upload.start)

    def chunks(self, upload: Upload) -> Iterator[bytes]:
        """The content in pieces."""
        for at in range(0, upload.size, _CHUNK):
            yield os.pread(self._contents.fileno(), min(_CHUNK, upload.size - at), upload.start + at)

    def get(self, file_id: str, now: float) -> Upload | None:
        """The file, unless it is unknown, deleted or expired."""
        upload = self._all.get(file_id)
        return upload if upload and upload.is_there(now) else None

    def find(self, uri: str) -> Upload | None:
        """The upload that a URL names, whether or not it is still there."""
        match = _PATH.search(urlsplit(uri).path)
        return self._all.get(match[1]) if match else None

    def fetch(self, uri: str, now: float) -> Upload | None:
        """The upload that a model gets by a URL: there, and by a valid signature if the URL has one."""
        upload = self.find(uri)
        if upload is None or not upload.is_there(now):
            return None
        parts = urlsplit(uri)
        return upload if not parts.path.endswith("/download") or is_signed(upload.id, parts.query, now) else None

    def all(self) -> list[Upload]:
        """All there ever were, oldest first."""
        return list(self._all.values())

    def page(self, now: float, skipped: int) -> tuple[list[Upload], bool]:
        """A page of those that are there, newest first, and whether there are more."""
        found = [upload for upload in reversed(self._all.values()) if upload.is_there(now)][skipped:]
        return found[:PAGE], len(found) > PAGE


def names_upload(uri: str) -> bool:
    """Whether a URL is of the kind that names an upload."""
    return _PATH.search(urlsplit(uri).path) is not None


def is_signed(file_id: str, query: str, now: float) -> bool:
    """Whether the query of a download has a valid signature that has not expired."""
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    expiry, signature = given.get("expiry", ""), given.get("signature", "")
    if given.get("owner") != _OWNER or not expiry.isdecimal() or now >= int(expiry):
        return False
    return _signature(file_id, int(expiry)) in (signature, unquote(signature))


def _signature(file_id: str, expiry: int) -> str:
    digest = hmac.digest(_KEY, f"{_OWNER} {file_id} {expiry}".encode(), "sha256")
    return base64.b64encode(digest).decode()
