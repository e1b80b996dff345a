"""The client for Replicate's API, and the one place where errors of its calls become ours."""

from __future__ import annotations

import asyncio
import json as jsonlib
import math
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from http.cookiejar import CookieJar
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import httpx

from jobs.config import Config
from jobs.errors import ConfigError, NotSent, Unanswered
from jobs.network import Network
from jobs.replicate_api.direct import open_path
from jobs.replicate_api.refusals import refusal
from jobs.replicate_api.transport import Client, Transport, send

API_CONNECTIONS = 64
"""Calls under way when each takes a second, at 600 creates and 3,000 reads a minute; most take a third of that."""

CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0

STALL_SECONDS = 120.0
"""An upload takes as long as it needs, but so long after each piece the next must have left, or the answer be there."""

TIMEOUT = httpx.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS, write=STALL_SECONDS)

_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
# OSError: ssl's errors in the middle of a stream pass through httpx as they are.
BROKEN = (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer of the API: its JSON object, and its headers by any case."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body that is sent as it is read; `length` is in bytes."""

    pieces: AsyncIterable[bytes]
    length: int
    content_type: str


def api_client(config: Config) -> httpx.AsyncClient:
    """Return the client for Replicate's API, the only one that has the token; paths are relative to the base URL."""
    # In blocking mode each create holds its connection while the model runs.
    connections = API_CONNECTIONS + (config.max_in_flight if config.prefer_wait else 0)
    headers = {"Accept": "application/json"} | _authorization(config)
    return make_client(connections, headers, TIMEOUT, base_url=config.replicate_base_url)


def page_client(config: Config) -> httpx.AsyncClient:
    """Return the client for the public pages of models, which never has the token; paths are relative to PAGES_URL."""
    return make_client(4, {"Accept": "text/html"}, TIMEOUT, base_url=config.pages_url)


def make_client(
    connections: int, headers: Mapping[str, str], timeout: httpx.Timeout, base_url: str = ""
) -> httpx.AsyncClient:
    """Return a client that goes where the environment leads: its proxies, its certificates."""
    network = Network.load()
    tls = network.tls or _usual_certificates()
    transport: httpx.AsyncBaseTransport
    if network.proxies:
        from jobs.replicate_api.proxies import ProxyTransport  # noqa: PLC0415 - few are behind one

        transport = ProxyTransport(network, connections, tls)
    else:
        transport = Transport(connections, tls)
    return Client(
        transport,
        base_url=base_url,
        headers={"User-Agent": _user_agent(), **headers},
        cookies=_NoCookies(),
        timeout=timeout,
    )


@lru_cache
def _usual_certificates() -> ssl.SSLContext:
    """Where the environment names no certificates; to read them takes 25 ms."""
    return httpx.create_ssl_context(trust_env=False)


async def call(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = CALL_SECONDS,  # noqa: ASYNC109 - it also sets httpx's own timeouts
) -> Answer:
    """Make one request of the API, answered within `timeout` seconds in all; raises only ReplicateErrors.

    A connection has 5 s to come about, so with a timeout above 15 s its failure always shows as NotSent.
    """
    what = f"{method} {url.partition('?')[0]}"
    content = None if json is None else jsonlib.dumps(json, separators=(",", ":")).encode()
    sent = dict(headers or {}) if json is None else {"Content-Type": "application/json", **(headers or {})}
    with _errors(client, what, timeout):
        async with asyncio.timeout(timeout):
            response = await open_path(client, method, url, content, sent)
            if response is None:
                response = await _open(client, method, url, content, sent, timeout)
            async with aclosing(response):
                return _answer(response.status_code, response.headers, await response.aread(), what)


async def upload(client: httpx.AsyncClient, path: str, body: Body) -> Answer:
    """POST a body of any size in pieces; raises only ReplicateErrors, Unanswered also when its pieces end too soon."""
    what, stall = f"POST {path}", client.timeout.write or STALL_SECONDS
    timer = asyncio.timeout(stall)
    headers = {"Content-Type": body.content_type, "Content-Length": str(body.length)}
    content = _restarting(timer, stall, body.pieces)
    with _errors(client, what, stall):
        async with timer, aclosing(await _open(client, "POST", path, content, headers, stall)) as response:
            return _answer(response.status_code, response.headers, await response.aread(), what)


async def _restarting(timer: asyncio.Timeout, stall: float, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces; whenever one has left, the timer starts again."""
    async for piece in pieces:
        yield piece
        with suppress(RuntimeError):  # the answer came before the end
            timer.reschedule(asyncio.get_running_loop().time() + stall)


async def read_page(client: httpx.AsyncClient, path: str) -> tuple[int, str]:
    """GET what is no part of the API: its status and text; NotSent, Unanswered."""
    with _errors(client, f"GET {path}", CALL_SECONDS):
        async with (
            asyncio.timeout(CALL_SECONDS),
            aclosing(await _open(client, "GET", path, None, {}, CALL_SECONDS)) as response,
        ):
            await response.aread()
    return response.status_code, response.text


async def _open(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    content: bytes | AsyncIterator[bytes] | None,
    headers: Mapping[str, str],
    seconds: float,
) -> httpx.Response:
    """Send a request to the client's host, and leave the body to be read."""
    timeout = httpx.Timeout(seconds, connect=client.timeout.connect, pool=client.timeout.pool)
    request = client.build_request(method, url, content=content, headers=headers, timeout=timeout)
    _refuse_other_host(client, request)
    return await send(client, request)


@contextmanager
def _errors(client: httpx.AsyncClient, what: str, seconds: float) -> Iterator[None]:
    """The one mapping of errors; what is raised in the block as ours passes."""
    try:
        yield
    except _UNSENT as error:
        raise NotSent(f"{what}: no connection to {client.base_url.host} ({reason_of(error)})") from error
    except TimeoutError as error:
        raise Unanswered(f"{what}: no whole answer within {seconds:g} s") from error
    except BROKEN as error:
        raise Unanswered(f"{what}: no answer ({reason_of(error)})") from error


def _refuse_other_host(client: httpx.AsyncClient, request: httpx.Request) -> None:
    home, target = client.base_url, request.url
    if (target.scheme, target.host, target.port) != (home.scheme, home.host, home.port):
        raise NotSent(f"{target.host} is not the API's host: the token is not sent there")


def _answer(status: int, headers: Mapping[str, str], content: bytes, what: str) -> Answer:
    if not 200 <= status < 300:
        raise refusal(status, headers, content)
    if status == 204:
        return Answer(204, {}, headers)
    try:
        body = jsonlib.loads(content, parse_constant=_ignore_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Unanswered(f"{what}: the answer is not JSON", status=status) from error
    if not isinstance(body, dict):
        raise Unanswered(f"{what}: the answer is not a JSON object", status=status)
    return Answer(status, body, headers)


def _ignore_constant(_: str) -> None:
    """NaN is no JSON, and our files are."""


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None  # 1e999 would be written as Infinity


def own_path(url: Any) -> str | None:
    """Path and query of a cursor, without its host: the token goes only to the configured one."""
    if not isinstance(url, str) or not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.path}?{parts.query}"


def reason_of(error: BaseException) -> str:
    """What broke, for a message: httpx leaves many texts empty."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _authorization(config: Config) -> dict[str, str]:
    token = config.replicate_api_token.get_secret_value().strip() if config.replicate_api_token else ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("REPLICATE_API_TOKEN holds characters that no token has")
    return {"Authorization": f"Bearer {token}"} if token else {}


class _NoCookies(CookieJar):
    def extract_cookies(self, response: object, request: object) -> None:
        """Ignore all cookies; a policy that refuses them makes a small call a tenth slower."""


def _user_agent() -> str:
    try:
        return f"replicate-batch/{version('replicate-batch')}"
    except PackageNotFoundError:
        return "replicate-batch"
