"""Who may see the pages and press their buttons: host names, sign-in, sessions, forged requests, response headers."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION_SECONDS = 30 * 86_400
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/sign-in", "/static/")
"""What needs no session: the way to one."""

METRICS = "/metrics"
"""What needs no session, but the token as `Authorization: Bearer`."""

FORGED = (
    "This request did not come from a page of this dashboard. Load the page again. A proxy before it has to pass on "
    "the Host that the browser sends."
)

LONGEST_FORM = 64 << 10
"""Bytes of a request's body."""

_HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?", re.ASCII)

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none, a browser says that forms come from nowhere: Origin: null
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""A response may set its own; what it does not set is these."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the server was started with: its addresses, its token if it needs one, and whether buttons work."""

    hosts: frozenset[str]
    """Host names that requests may carry; empty: any, as a token protects them."""
    token: str | None = None
    read_only: bool = False
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def key(self) -> bytes:
        """What sessions are signed with: with a token they outlive a restart, and end when it changes."""
        return hashlib.sha256(b"session:" + self.token.encode()).digest() if self.token else self.secret

    def is_token(self, text: str) -> bool:
        """Whether this is the token; takes equally long for any text."""
        return is_same(text.strip(), self.token or "") and bool(self.token)

    def open_session(self, now: float) -> str:
        """A new session's cookie."""
        session = f"{int(now + SESSION_SECONDS)}.{secrets.token_urlsafe(12)}"
        return f"{session}.{self._sign(session)}"

    def is_session(self, cookie: str, now: float) -> bool:
        """Whether a cookie is one of ours, and not over."""
        session, _, signature = cookie.rpartition(".")
        expires = session.partition(".")[0]
        return is_same(signature, self._sign(session)) and expires.isdigit() and int(expires) > now

    def csrf_token(self, cookie: str) -> str:
        """What requests of a session that change something carry in `x-csrf-token`."""
        return self._sign(f"csrf:{cookie}")

    def _sign(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def is_same(given: str, right: str) -> bool:
    """Whether two texts are the same; how long it takes says nothing about them. Any text may be given."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def cookie_name(connection: HTTPConnection) -> str:
    """The cookie's name; browsers share cookies between ports, so that two dashboards would sign each other out."""
    host = _HOST.fullmatch(connection.headers.get("host", ""))
    return f"replicate_batch_{(host and host['port']) or 80}"


def session_name(connection: HTTPConnection) -> str:
    """Who did something, as far as that is known: an address, and what tells two browsers apart."""
    cookie = connection.cookies.get(cookie_name(connection), "")
    host = connection.client.host if connection.client else "?"
    return f"{host} {cookie.partition('.')[2][:4]}".strip()


class Guard:
    """Middleware that refuses what must not be answered, and sets the headers of what is."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        cookie = connection.cookies.get(cookie_name(connection), "")
        is_known = self._access.is_session(cookie, time.time())
        is_new = not is_known and self._access.token is None
        if is_new:
            cookie = self._access.open_session(time.time())
        scope["state"] = {**scope.get("state", {}), "csrf": self._access.csrf_token(cookie), "access": self._access}
        refusal = self._refuse(connection, cookie, is_known=is_known)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if is_new and not refusal:
                    headers.append("set-cookie", session_cookie(connection, cookie))
            await send(message)

        return await (refusal or self._app)(scope, receive, send_with_headers)

    def _refuse(self, connection: HTTPConnection, cookie: str, *, is_known: bool) -> Response | None:
        # The path is the one that routes see: an address made of the Host header may read otherwise.
        headers, path = connection.headers, connection.scope["path"]
        host = _HOST.fullmatch(headers.get("host", ""))
        if host is None or (self._access.hosts and host["name"].strip("[]").lower() not in self._access.hosts):
            return PlainTextResponse(f"This dashboard does not answer as {headers.get('host', '')[:200]!r}.", 421)
        if self._access.token and not is_known and not path.startswith(OPEN_PATHS):
            return self._ask_for_token(connection, path)
        return None if connection.scope["method"] in SAFE_METHODS else self._refuse_change(headers, path, cookie)

    def _ask_for_token(self, connection: HTTPConnection, path: str) -> Response | None:
        if path != METRICS:
            return _to_sign_in(connection)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.is_token(token):
            return None
        hint = "Send BATCH_DASHBOARD_TOKEN as `Authorization: Bearer`."
        return PlainTextResponse(hint, 401, {"www-authenticate": "Bearer"})

    def _refuse_change(self, headers: Headers, path: str, cookie: str) -> Response | None:
        if self._access.read_only and path not in OPEN_PATHS:
            return PlainTextResponse("This dashboard is read-only: it was started with --read-only.", 403)
        if not headers.get("content-length", "").isdecimal() or int(headers["content-length"]) > LONGEST_FORM:
            return PlainTextResponse(f"A form has a length, of {LONGEST_FORM:,} bytes at most.", 413)
        if _is_foreign(headers) or (path not in OPEN_PATHS and not self._has_csrf_token(headers, cookie)):
            return PlainTextResponse(FORGED, 403)
        return None

    def _has_csrf_token(self, headers: Headers, cookie: str) -> bool:
        return is_same(headers.get("x-csrf-token", ""), self._access.csrf_token(cookie))


def session_cookie(connection: HTTPConnection, cookie: str, seconds: int = SESSION_SECONDS) -> str:
    """The header that gives a browser its session; 0 seconds takes it away."""
    response = Response()
    options: dict[str, Any] = {"httponly": True, "samesite": "strict", "secure": connection.url.scheme == "https"}
    response.set_cookie(cookie_name(connection), cookie, max_age=seconds, path="/", **options)
    return response.headers["set-cookie"]


def _to_sign_in(connection: HTTPConnection) -> Response:
    target = "/sign-in"
    if connection.scope["method"] in SAFE_METHODS and "hx-request" not in connection.headers:
        return RedirectResponse(f"{target}?next={quote(connection.url.path)}", 303)
    return Response("Sign in first.", 401, {"hx-redirect": target})


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser says that the request comes from another site's page."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
