"""Files that the user uploaded: kept in memory for a day."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from simulator.answers import timestamp

_LIFETIME = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file."""

    id: str
    name: str
    content_type: str
    content: bytes
    metadata: dict[str, Any]
    created: float

    def body(self, api: str) -> dict[str, Any]:
        """The file as the API shows it."""
        md5 = hashlib.md5(self.content, usedforsecurity=False).hexdigest()
        return {
            "id": self.id,
            "name": self.name,
            "content_type": self.content_type,
            "size": len(self.content),
            "etag": md5,
            "checksums": {"sha256": hashlib.sha256(self.content).hexdigest(), "md5": md5},
            "metadata": self.metadata,
            "created_at": timestamp(self.created, 3),
            "expires_at": timestamp(self.created + _LIFETIME, 3),
            "urls": {"get": f"{api}/v1/files/{self.id}"},
        }


class Uploads:
    """All uploads, by id."""

    def __init__(self) -> None:
        self._files: dict[str, Upload] = {}

    def add(self, name: str, content_type: str, content: bytes, metadata: dict[str, Any], now: float) -> Upload:
        """Keep a file."""
        upload = Upload(secrets.token_hex(13), name, content_type, content, metadata, now)
        self._files[upload.id] = upload
        return upload

    def get(self, file_id: str, now: float) -> Upload | None:
        """The file, unless it is unknown or a day old."""
        upload = self._files.get(file_id)
        return upload if upload and now < upload.created + _LIFETIME else None

    def all(self, now: float) -> list[Upload]:
        """All that have not expired, newest first."""
        return [upload for upload in reversed(self._files.values()) if now < upload.created + _LIFETIME]

    def delete(self, file_id: str) -> bool:
        """Whether it was there."""
        return self._files.pop(file_id, None) is not None
