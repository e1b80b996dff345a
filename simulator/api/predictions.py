"""The calls on /v1/predictions: create, get, list, cancel."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.answers import Problem, invalid, not_found
from simulator.models.model import Model
from simulator.models.registry import DEPLOYMENTS, MODELS
from simulator.predictions import Prediction, map_files
from simulator.rendering import View, prediction_body, prediction_fields, written
from simulator.simulation import Simulation

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_CURSOR = re.compile(r"(older|newer)-\d+")
_INLINE_LIMIT = 1_000_000


class PredictionApi:
    """Answers the calls; `files_url` is the base of output URLs."""

    def __init__(self, simulation: Simulation, files_url: str) -> None:
        self._simulation, self._files_url = simulation, files_url

    def routes(self) -> list[Route]:
        """The paths, the busiest first."""
        return [
            Route("/v1/predictions/{id}", self.get, methods=["GET"]),
            Route("/v1/predictions", self.create, methods=["POST"]),
            Route("/v1/predictions", self.list_page, methods=["GET"]),
            Route("/v1/models/{owner}/{name}/predictions", self.create_official, methods=["POST"]),
            Route("/v1/deployments/{owner}/{name}/predictions", self.create_deployed, methods=["POST"]),
            Route("/v1/predictions/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """POST /v1/predictions: `version` names an official model or a version."""
        body = await _json_body(request)
        asked = body.get("version")
        if not isinstance(asked, str):
            raise invalid([{"type": "required", "field": "version", "description": "version is required"}])
        owner_name, _, version = asked.rpartition(":")
        if "/" in asked and not owner_name:
            model, via = MODELS.get(asked), "official"
            model = model if model and model.official else None
        else:
            model, via = self._simulation.versions.model(version), "version"
            model = model if model and owner_name in ("", model.full_name) else None
        if model is None or model.private:
            detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
            raise Problem(422, detail, title="Invalid version or not permitted")
        return await self._created(request, model, body, via, asked)

    async def create_official(self, request: Request) -> Response:
        """POST /v1/models/{owner}/{name}/predictions."""
        asked = _full_name(request)
        model = MODELS.get(asked)
        if model is None or not model.official or model.private:
            raise not_found()
        return await self._created(request, model, await _json_body(request), "official", asked)

    async def create_deployed(self, request: Request) -> Response:
        """POST /v1/deployments/{owner}/{name}/predictions."""
        asked = _full_name(request)
        if asked not in DEPLOYMENTS:
            raise not_found()
        return await self._created(request, DEPLOYMENTS[asked], await _json_body(request), "deployment", asked)

    async def get(self, request: Request) -> Response:
        """GET /v1/predictions/{id}."""
        return _answer(prediction_body(self._find(request), self._view(request)))

    async def cancel(self, request: Request) -> Response:
        """POST /v1/predictions/{id}/cancel."""
        prediction = self._find(request)
        prediction.cancel(self._simulation.clock.now())
        return _answer(prediction_body(prediction, self._view(request)))

    async def list_page(self, request: Request) -> Response:
        """GET /v1/predictions: 100 a page, newest first."""
        faults, view = self._simulation.faults, self._view(request)
        query = request.query_params
        lag, stale = faults.strike("list_lag", "list"), faults.strike("stale_list", "list")
        shown_until = view.now - (lag.seconds(1.0) if lag else 0.0)
        page = self._simulation.predictions.page(
            after=_moment(query.get("created_after"), "created_after"),
            before=_moment(query.get("created_before"), "created_before"),
            cursor=_cursor(query.get("cursor")),
            visible=lambda row: row.created <= shown_until,
        )
        seen = replace(view, now=view.now - stale.seconds(1.0)) if stale else view
        rows = b",".join(_row(row, seen) for row in page.rows)
        link = partial(_link, view.api, dict(query))
        return _answer(b'{"next":%s,"previous":%s,"results":[%s]}' % (link(page.older), link(page.newer), rows))

    async def _created(self, request: Request, model: Model, body: dict[str, Any], via: str, asked: str) -> Response:
        lifetime = _lifetime(request.headers.get("cancel-after"))
        wait = _wait(request.headers.get("prefer"))
        prediction = self._simulation.create(model, model.check(body.get("input", {})), via=via, asked=asked)
        if lifetime is not None:
            prediction.limit_life(prediction.created + lifetime)
        if wait is None:
            return _answer(prediction_body(prediction, self._view(request)), 201)
        applied = {"preference-applied": request.headers["prefer"].strip()}
        await self._finished(prediction, wait)
        return await self._waited_for(request, prediction, applied)

    async def _finished(self, prediction: Prediction, wait: float) -> None:
        ends = self._simulation.clock.now() + wait
        while (left := min(ends, prediction.finish) - self._simulation.clock.now()) > 0:  # noqa: ASYNC110  # also ends when a cancel or the clock moves `finish`
            await asyncio.sleep(min(left, 0.05))

    async def _waited_for(self, request: Request, prediction: Prediction, applied: dict[str, str]) -> Response:
        view = self._view(request)
        fields = prediction_fields(prediction, view)
        if view.now < prediction.finish:
            return _answer(written(prediction, fields), 202, applied)
        inline = self._simulation.random["inline"].random() < self._simulation.settings.inline
        if inline and prediction.status(view.now) == "succeeded" and not prediction.removed:
            drawn = await asyncio.to_thread(self._data_uris, prediction)
            if sum(map(len, drawn)) <= _INLINE_LIMIT:
                fields |= {"status": "processing", "output": map_files(prediction.output(), lambda _file, i: drawn[i])}
                fields.pop("completed_at", None)
                fields.pop("metrics", None)
        return _answer(written(prediction, fields), 201, applied)

    def _data_uris(self, prediction: Prediction) -> list[str]:
        return [
            f"data:{file.content_type};base64,{base64.b64encode(file.draw(self._simulation.read)).decode()}"
            for file in prediction.files()
        ]

    def _find(self, request: Request) -> Prediction:
        prediction = self._simulation.predictions.get(request.path_params["id"])
        if prediction is None:
            raise not_found()
        return prediction

    def _view(self, request: Request) -> View:
        settings = self._simulation.settings
        return View(
            api_base(request), self._files_url, self._simulation.clock.now(), settings.retention, settings.redaction
        )


def api_base(request: Request) -> str:
    """The API's base URL as the client wrote it."""
    return f"http://{request.headers.get('host', '127.0.0.1')}"


def _answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _row(prediction: Prediction, view: View) -> bytes:
    fields = prediction_fields(prediction, view)
    del fields["logs"]
    return written(prediction, fields)


def _full_name(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


async def _json_body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise Problem(400, "The request body is not valid JSON.", title="Bad request") from None
    if not isinstance(body, dict):
        raise invalid([{"type": "invalid_type", "field": "", "description": "Invalid type. Expected: object"}])
    return body


def _wait(prefer: str | None) -> float | None:
    if prefer is None or not prefer.strip().startswith("wait"):
        return None
    _, _, seconds = prefer.strip().partition("=")
    if not seconds:
        return 60.0
    if not seconds.isdigit() or not 1 <= int(seconds) <= 60:
        raise Problem(422, "Prefer: wait must be a number of seconds between 1 and 60", title="Invalid header")
    return float(seconds)


def _lifetime(cancel_after: str | None) -> float | None:
    if cancel_after is None:
        return None
    match = _DURATION.fullmatch(cancel_after.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if total < 5:
        raise Problem(422, "Cancel-After must be a duration of at least 5 seconds", title="Invalid header")
    return float(total)


def _moment(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise Problem(422, f"{name} is not an ISO 8601 date-time: {text}", title="Invalid query") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _cursor(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        cursor = base64.urlsafe_b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError):
        cursor = ""
    if not _CURSOR.fullmatch(cursor):
        raise Problem(422, "The cursor is not valid.", title="Invalid cursor")
    return cursor


def _link(api: str, query: dict[str, str], cursor: str | None) -> bytes:
    if cursor is None:
        return b"null"
    query["cursor"] = base64.urlsafe_b64encode(cursor.encode()).decode()
    return f'"{api}/v1/predictions?{urlencode(query)}"'.encode()
