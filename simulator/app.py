"""The ASGI application: two origins on two ports, a gate before the API, and the models' public pages."""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from email.utils import formatdate
from typing import Any

from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from simulator.answers import Problem, error_page, not_found
from simulator.api import pages
from simulator.api.catalog import CatalogApi
from simulator.api.control import ControlApi
from simulator.api.predictions import PredictionApi
from simulator.api.uploads import UploadApi
from simulator.faults import Fault
from simulator.file_host import FileHost
from simulator.server import reset, wait_for_disconnect
from simulator.simulation import Simulation

_CREATE = re.compile(r"/v1/(?:(?:models|deployments)/[^/]+/[^/]+/)?predictions")
_PAGE = re.compile(r"/(?!v1/)[^/]+/[^/]+")
_DOWNLOAD = re.compile(r"/v1/files/[^/]+/download")
_FOREVER = 3600.0
_UNAUTHENTICATED = "You did not pass a valid authentication token"
_NO_CREDIT = (
    "You have insufficient credit to run this model. Go to https://replicate.com/account/billing to purchase credit."
)
_SPEND_LIMIT = "You've hit your monthly spend limit. Raise it at https://replicate.com/account/billing."


class Application:
    """Sends each call to the control calls, the file host or, through the gate, to the API."""

    def __init__(self, simulation: Simulation, *, files_url: str, files_port: int) -> None:
        self._simulation, self._files_port = simulation, files_port
        apis = (PredictionApi(simulation, files_url), CatalogApi(simulation), UploadApi(simulation))
        api = [route for each in apis for route in each.routes()]
        self._api = Router(api, redirect_slashes=False, default=_nothing_there)
        self._control = Router(ControlApi(simulation).routes(), redirect_slashes=False, default=_nothing_there)
        self._pages = Router(pages.routes(), redirect_slashes=False, default=_nothing_there)
        self._files = FileHost(simulation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call; a Problem raised anywhere becomes its answer."""
        send = self._dated(send)
        try:
            if scope["server"][1] == self._files_port:
                await self._output(scope, receive, send)
            elif scope["path"].startswith("/control/"):
                await self._control(scope, receive, send)
            elif _PAGE.fullmatch(scope["path"]):
                await self._pages(scope, receive, send)
            else:
                await self._call(scope, receive, send)
        except Problem as problem:
            self._simulation.ledger.answers[str(problem.status)] += 1
            await problem.answer()(scope, receive, send)
        except Exception:
            traceback.print_exc()
            raise

    async def _output(self, scope: Scope, receive: Receive, send: Send) -> None:
        ledger = self._simulation.ledger
        ledger.calls["output"] += 1
        if token := _header(scope, b"authorization"):
            ledger.file_tokens[token] += 1
        if not await self._apply_fault(scope, receive, send, "output"):
            await self._files(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = kind_of(scope["method"], scope["path"])
        self._simulation.ledger.calls[kind] += 1
        headers = self._admit(scope, kind)
        if await self._apply_fault(scope, receive, send, kind):
            return
        if fault := self._simulation.faults.strike("lost_answer", kind):
            await self._api(scope, receive, _discard)
            await self._lose(fault, scope, receive, send)
        else:
            if fault := self._simulation.faults.strike("late_answer", kind):
                send = _late(send, fault.seconds(1.0))
            await self._api(scope, receive, self._with_headers(send, headers))

    def _admit(self, scope: Scope, kind: str) -> dict[str, str]:
        """Return the headers for the answer, or raise Problem 401, 429 or 402."""
        simulation, faults = self._simulation, self._simulation.faults
        scheme, _, token = _header(scope, b"authorization").partition(" ")
        simulation.ledger.api_tokens[token] += 1
        valid = scheme in ("Bearer", "Token") and token and token == (simulation.settings.token or token)
        if not (valid or _DOWNLOAD.fullmatch(scope["path"])) or faults.strike("unauthorized", kind):
            raise Problem(401, _UNAUTHENTICATED, title="Unauthenticated")
        try:
            if fault := faults.strike("throttle", kind):
                raise simulation.limits.throttled(fault.seconds(1.0), **_known(fault.options, "form", "detail"))
            headers = simulation.limits.take(kind, time.monotonic(), simulation.credit)
        except Problem:
            simulation.ledger.throttled[kind] += 1
            raise
        self._charge(kind)
        return headers

    def _charge(self, kind: str) -> None:
        simulation = self._simulation
        if fault := simulation.faults.strike("payment_required", kind):
            raise Problem(402, fault.options.get("text", _NO_CREDIT), title="Insufficient credit")
        if kind == "create" and simulation.settings.spend_limit:
            raise Problem(402, _SPEND_LIMIT, title="Monthly spend limit reached")
        if kind == "create" and simulation.credit is not None and simulation.credit <= 0:
            raise Problem(402, _NO_CREDIT, title="Insufficient credit")

    async def _apply_fault(self, scope: Scope, receive: Receive, send: Send, kind: str) -> bool:
        """Whether a fault answered, or refused to, before the effect."""
        faults = self._simulation.faults
        if (fault := faults.strike("delay", kind)) and not await self._delayed(fault):
            await reset(scope, receive)
        elif fault := faults.strike("hang", kind):
            await wait_for_disconnect(receive, fault.seconds(_FOREVER))
            await reset(scope, receive)
        elif faults.strike("reset", kind):
            await reset(scope, receive)
        elif fault := faults.strike("cut_upload", kind):
            await _read_part(receive, int(_header(scope, b"content-length") or 0) * fault.options.get("fraction", 0.5))
            await reset(scope, receive)
        elif fault := faults.strike("error", kind):
            await self._server_error(**_known(fault.options, "status", "form", "retry_after"))(scope, receive, send)
        else:
            return False
        return True

    async def _delayed(self, fault: Fault) -> bool:
        """Wait; False if a reset came meanwhile, so that the call must have no effect."""
        resets = self._simulation.resets
        await asyncio.sleep(fault.seconds(1.0))
        return resets == self._simulation.resets

    async def _lose(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        how = fault.options.get("how", "reset")
        if how == "hang":
            await wait_for_disconnect(receive, fault.seconds(_FOREVER))
        if how in ("hang", "reset"):
            await reset(scope, receive)
        else:
            await self._server_error(int(how))(scope, receive, send)

    def _server_error(self, status: int | None = None, form: str = "", retry_after: Any = None) -> Response:
        random = self._simulation.random["server error"]
        status = status or random.choice((500, 502, 503, 504))
        self._simulation.ledger.answers[str(status)] += 1
        return error_page(status, form or random.choice(("problem", "html", "empty")), retry_after)

    def _with_headers(self, send: Send, headers: dict[str, str]) -> Send:
        more = [(name.encode(), value.encode()) for name, value in headers.items()]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._simulation.ledger.answers[str(message["status"])] += 1
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        return with_headers

    def _dated(self, send: Send) -> Send:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._simulation.clock.now(), usegmt=True).encode()
                message["headers"] = [*message.get("headers", ()), (b"date", date)]
            await send(message)

        return dated


def kind_of(method: str, path: str) -> str:
    """The kind of a call to the API: what limits, faults and the ledger go by."""
    if _CREATE.fullmatch(path):
        return "list" if method == "GET" else "create"
    if path.startswith("/v1/predictions/"):
        return "get" if method == "GET" else "cancel"
    if path.startswith("/v1/files"):
        return "upload" if method == "POST" else "files"
    return "account" if path == "/v1/account" else "models"


def _known(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _read_part(receive: Receive, size: float) -> None:
    """Read so many bytes of a request."""
    while size > 0 and (message := await receive())["type"] == "http.request" and message.get("more_body"):
        size -= len(message["body"])


def _late(send: Send, seconds: float) -> Send:
    async def wait(message: Message) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(seconds)
        await send(message)

    return wait


async def _discard(_message: Any) -> None:
    """Discard the answer: the client never gets it."""


async def _nothing_there(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise not_found()
