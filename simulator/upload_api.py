"""The calls on /v1/files: upload, get, list, delete, download."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.answers import Problem, invalid, json_answer
from simulator.prediction_api import api_base
from simulator.simulation import Simulation
from simulator.uploads import Upload


class UploadApi:
    """Answers the calls on uploaded files."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files", self.list_all, methods=["GET"]),
            Route("/v1/files/{id}", self.get, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/download", self.download, methods=["GET"]),
        ]

    async def upload(self, request: Request) -> Response:
        """POST /v1/files: multipart with `content` and, optionally, `metadata` in JSON."""
        limit = self._simulation.settings.max_upload
        if int(request.headers.get("content-length", 0)) > limit + 10_000:
            raise _too_large()
        async with request.form() as form:
            content = form.get("content")
            if not isinstance(content, UploadFile):
                raise invalid([{"type": "required", "field": "content", "description": "content is required"}])
            data = await content.read()
            metadata = _metadata(form.get("metadata"))
            name, kind = content.filename or "file", content.content_type or "application/octet-stream"
        if len(data) > limit:
            raise _too_large()
        upload = self._simulation.uploads.add(name, kind, data, metadata, self._simulation.clock.now())
        return json_answer(upload.body(api_base(request)), 201)

    async def list_all(self, request: Request) -> Response:
        """GET /v1/files."""
        rows = [upload.body(api_base(request)) for upload in self._simulation.uploads.all(self._simulation.clock.now())]
        return json_answer({"next": None, "previous": None, "results": rows})

    async def get(self, request: Request) -> Response:
        """GET /v1/files/{id}."""
        return json_answer(self._find(request).body(api_base(request)))

    async def download(self, request: Request) -> Response:
        """GET /v1/files/{id}/download; the signature is not checked."""
        upload = self._find(request)
        return Response(upload.content, headers={"content-type": upload.content_type})

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/files/{id}."""
        self._find(request)
        self._simulation.uploads.delete(request.path_params["id"])
        return Response(status_code=204)

    def _find(self, request: Request) -> Upload:
        upload = self._simulation.uploads.get(request.path_params["id"], self._simulation.clock.now())
        if upload is None:
            raise Problem(404, "File not found")
        return upload


def _metadata(text: Any) -> dict[str, Any]:
    try:
        metadata = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise invalid([{"type": "invalid_type", "field": "metadata", "description": "Invalid type. Expected: object"}])
    return metadata


def _too_large() -> Problem:
    return Problem(413, "Files must be less than 100MB in size")
