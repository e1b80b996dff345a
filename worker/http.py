"""The two HTTP clients, and the one place where httpx's errors become ours."""

from __future__ import annotations

import asyncio
import json as jsonlib
import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http.cookiejar import CookieJar
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from jobs.config import Config
from jobs.errors import BrokenDownload, ConfigError, FileRefused, NotSent, OutputError, OutputGone, Unanswered
from jobs.network import Network
from worker.content_coding import is_packed, unpack
from worker.file_answer import FileAnswer
from worker.output_url import check_output_url
from worker.refusals import refusal
from worker.transport import Client, Transport, send

API_CONNECTIONS = 64
"""Calls under way when each takes a second, at 600 creates and 3,000 reads a minute; most take a third of that."""

CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
STALL_SECONDS = 30.0
"""A download that brings no byte for so long is broken."""

SLOW_SECONDS, SLOW_BYTES = 60.0, 30_000
"""So is one that brings fewer bytes in so long a wait for them: it would keep its slot from others for ever."""

MAX_REDIRECTS = 5

_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
# OSError: ssl's errors in the middle of a stream pass through httpx as they are.
_BROKEN = (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer of the API: its JSON object, and its headers by any case."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


def api_client(config: Config) -> httpx.AsyncClient:
    """Return the client for Replicate's API, the only one that has the token; paths are relative to the base URL."""
    # In blocking mode each create holds its connection while the model runs.
    connections = API_CONNECTIONS + (config.max_in_flight if config.prefer_wait else 0)
    headers = {"Accept": "application/json"} | _authorization(config)
    return _client(connections, headers, httpx.Timeout(CALL_SECONDS), base_url=config.replicate_base_url)


def files_client(config: Config) -> httpx.AsyncClient:
    """Return the client for output hosts: no token, a connection for each of MAX_DOWNLOADS."""
    return file_client(config.max_downloads)


def file_client(connections: int = 1) -> httpx.AsyncClient:
    """Return a client for output hosts with that many connections at most."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    return _client(connections, headers, httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS, pool=None))


def _client(
    connections: int, headers: Mapping[str, str], timeout: httpx.Timeout, base_url: str = ""
) -> httpx.AsyncClient:
    network = Network.load()
    tls = network.tls or _usual_certificates()
    transport: httpx.AsyncBaseTransport
    if network.proxies:
        from worker.proxies import ProxyTransport  # noqa: PLC0415 - few are behind one

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
    try:
        async with asyncio.timeout(timeout):
            request = client.build_request(
                method,
                url,
                content=None if json is None else jsonlib.dumps(json, separators=(",", ":")),
                headers={"Content-Type": "application/json"} | dict(headers or {}) if json is not None else headers,
                timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            )
            _keep_token_at_home(client, request)
            async with aclosing(await send(client, request)) as response:
                await response.aread()
    except _UNSENT as error:
        raise NotSent(f"{what}: no connection to {client.base_url.host} ({_reason(error)})") from error
    except TimeoutError as error:
        raise Unanswered(f"{what}: no whole answer within {timeout:g} s") from error
    except _BROKEN as error:
        raise Unanswered(f"{what}: no answer ({_reason(error)})") from error
    return _answer(response, what)


def _keep_token_at_home(client: httpx.AsyncClient, request: httpx.Request) -> None:
    home, target = client.base_url, request.url
    if (target.scheme, target.host, target.port) != (home.scheme, home.host, home.port):
        raise NotSent(f"{target.host} is not the API's host: the token is not sent there")


def _answer(response: httpx.Response, what: str) -> Answer:
    if not response.is_success:
        raise refusal(response.status_code, response.headers, response.content)
    try:
        body = jsonlib.loads(response.content, parse_constant=_nothing, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Unanswered(f"{what}: the answer is not JSON", status=response.status_code) from error
    if not isinstance(body, dict):
        raise Unanswered(f"{what}: the answer is not a JSON object", status=response.status_code)
    return Answer(response.status_code, body, response.headers)


def _nothing(_: str) -> None:
    """NaN is no JSON, and our files are."""


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None  # 1e999 would be written as Infinity


@asynccontextmanager
async def open_file(
    client: httpx.AsyncClient, url: str, *, hosts: Sequence[str], headers: Mapping[str, str] | None = None
) -> AsyncIterator[FileAnswer]:
    """Open one output file; every redirect, 5 at most, is checked against `hosts` before it is followed.

    Yields a FileAnswer of status 200, 206 or 416; raises FileRefused, OutputGone or BrokenDownload.
    """
    response = await _follow(client, url, hosts, headers)
    try:
        if error := _file_refusal(response.status_code, url):
            raise error
        async with aclosing(_chunks(response, url)) as chunks:
            yield await _file_answer(response, chunks, url)
    finally:
        await response.aclose()


async def _file_answer(response: httpx.Response, chunks: AsyncGenerator[bytes, None], url: str) -> FileAnswer:
    coding = response.headers.get("content-encoding")
    if response.status_code != 200 or not is_packed(coding):
        return FileAnswer(response.status_code, response.headers, chunks, packed=is_packed(coding))
    unpacked, packed = await unpack(chunks, coding, url, response.url.path)
    return FileAnswer(response.status_code, response.headers, unpacked, packed=packed)


async def _follow(
    client: httpx.AsyncClient, url: str, hosts: Sequence[str], headers: Mapping[str, str] | None
) -> httpx.Response:
    place = url
    for _ in range(MAX_REDIRECTS + 1):
        checked = check_output_url(place, hosts)
        with _file_errors(url):
            request = client.build_request("GET", checked, headers=headers)
            async with asyncio.timeout(SLOW_SECONDS):  # httpx's own begins anew with each byte of the head
                response = await send(client, request)
        if not response.has_redirect_location:
            return response
        await response.aclose()
        with _file_errors(url):
            place = str(request.url.join(response.headers["location"]))
    raise BrokenDownload(f"{url[:200]}: more than {MAX_REDIRECTS} redirects", url)


async def _chunks(response: httpx.Response, url: str) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    waited, brought, asked_at = 0.0, 0, loop.time()
    with _file_errors(url):
        async for chunk in response.aiter_raw():
            waited, brought = waited + loop.time() - asked_at, brought + len(chunk)
            if waited > SLOW_SECONDS:
                if brought < SLOW_BYTES:
                    raise BrokenDownload(f"{url[:200]}: {brought:,} bytes in {waited:.0f} s", url, slow=True)
                waited, brought = 0.0, 0
            yield chunk
            asked_at = loop.time()


def _file_refusal(status: int, url: str) -> OutputError | None:
    if status in (200, 206, 416):
        return None
    if status in (403, 404, 410):
        return OutputGone(f"{url[:200]} is not there: the file host answers {status}", url)
    return BrokenDownload(f"{url[:200]}: the file host answers {status}", url)


@contextmanager
def _file_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, ValueError) as error:
        raise FileRefused(f"{url[:200]} or what it redirects to is not a URL", url) from error
    except _BROKEN as error:
        raise BrokenDownload(f"{url[:200]}: the transfer broke ({_reason(error)})", url) from error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _authorization(config: Config) -> dict[str, str]:
    token = config.replicate_api_token.get_secret_value().strip() if config.replicate_api_token else ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("REPLICATE_API_TOKEN holds characters that no token has")
    return {"Authorization": f"Bearer {token}"} if token else {}


class _NoCookies(CookieJar):
    def extract_cookies(self, response: object, request: object) -> None:
        """Look for none: a policy that refuses them all costs a small call a tenth more."""


def _user_agent() -> str:
    try:
        return f"replicate-batch/{version('replicate-batch')}"
    except PackageNotFoundError:
        return "replicate-batch"
