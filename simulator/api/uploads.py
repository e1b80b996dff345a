"""The calls on /v1/files: upload, get, list, delete, download."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from simulator.answers import Problem, invalid, json_answer
from simulator.api.predictions import api_base
from simulator.simulation import Simulation
from simulator.uploads import LIFETIME, PAGE, Upload, is_signed

_LONGEST_NAME = 255


class UploadApi:
    """Answers the calls on uploaded files."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files", self.list_page, methods=["GET"]),
            Route("/v1/files/{id}", self.get, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/download", self.download, methods=["GET"]),
        ]

    async def upload(self, request: Request) -> Response:
        """POST /v1/files: multipart with `content` and, optionally, `metadata` in JSON."""
        limit = self._simulation.settings.max_upload
        if int(request.headers.get("content-length", 0)) > limit + 10_000:
            raise _too_large()
        try:
            async with request.form() as form:
                content = form.get("content")
                if not isinstance(content, UploadFile):
                    raise _wrong("required", "content", "content is required")
                if (content.size or 0) > limit:
                    raise _too_large()
                upload = await self._store(content, await _metadata(form.get("metadata")))
        except MultiPartException as error:
            raise Problem(400, error.message, title="Bad request") from None
        except ClientDisconnect:
            raise Problem(400, "The request ended too soon.", title="Bad request") from None
        return json_answer(upload.body(api_base(request)), 201)

    async def _store(self, content: UploadFile, metadata: dict[str, Any]) -> Upload:
        simulation, size, name = self._simulation, content.size or 0, content.filename or "file"
        if len(name.encode()) > _LONGEST_NAME:
            raise _wrong("string_lte", "filename", f"Must be at most {_LONGEST_NAME} bytes")
        faults, now = simulation.faults, simulation.clock.now()
        short, bare = faults.strike("short_upload", "upload"), faults.strike("bare_upload", "upload")
        upload = Upload(
            name=name,
            content_type=content.content_type or "application/octet-stream",
            metadata=metadata,
            created=now,
            expires=now + (short.seconds(1.0) if short else LIFETIME),
            size=size,
            start=simulation.uploads.reserve(size),
            signed=simulation.signs_url(),
            hidden=frozenset(bare.options.get("hidden", ("checksums", "expires_at", "etag")) if bare else ()),
        )
        damaged = faults.strike("wrong_upload", "upload") is not None
        await asyncio.to_thread(simulation.uploads.write, upload, content.file, damaged=damaged)
        return upload

    async def list_page(self, request: Request) -> Response:
        """GET /v1/files: 100 a page, newest first."""
        cursor, api = request.query_params.get("cursor", "0"), api_base(request)
        skipped = int(cursor) if cursor.isdecimal() else 0
        rows, more = self._simulation.uploads.page(self._simulation.clock.now(), skipped)
        following = f"{api}/v1/files?cursor={skipped + PAGE}" if more else None
        return json_answer({"next": following, "previous": None, "results": [upload.body(api) for upload in rows]})

    async def get(self, request: Request) -> Response:
        """GET /v1/files/{id}."""
        return json_answer(self._find(request).body(api_base(request)))

    async def download(self, request: Request) -> Response:
        """GET /v1/files/{id}/download by a signed URL."""
        upload = self._find(request)
        if not is_signed(upload.id, request.url.query, self._simulation.clock.now()):
            raise _not_found()
        headers = {"content-type": upload.content_type, "content-length": str(upload.size)}
        return StreamingResponse(self._simulation.uploads.chunks(upload), headers=headers)

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/files/{id}."""
        self._simulation.delete_upload(self._find(request))
        return Response(status_code=204)

    def _find(self, request: Request) -> Upload:
        upload = self._simulation.uploads.get(request.path_params["id"], self._simulation.clock.now())
        if upload is None:
            raise _not_found()
        return upload


async def _metadata(given: UploadFile | str | None) -> dict[str, Any]:
    text = await given.read() if isinstance(given, UploadFile) else given or "{}"
    try:
        metadata = json.loads(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise _wrong("invalid_type", "metadata", "Invalid type. Expected: object")
    return metadata


def _wrong(kind: str, field: str, description: str) -> Problem:
    return invalid([{"type": kind, "field": field, "description": description}])


def _not_found() -> Problem:
    return Problem(404, "File not found")


def _too_large() -> Problem:
    return Problem(413, "Files must be less than 100MB in size")
