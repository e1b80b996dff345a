"""httpx over aiohttp's connections: httpx's own pool costs O(connections²) a call and reads files in small pieces.

Not httpx-aiohttp, which reports what a server did to a request as a ConnectTimeout and rewrites URLs.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import aiohttp
import httpx
import yarl
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict

IDLE_SECONDS = 5.0
"""As httpx: the server may be closing a connection that was idle for longer, and a create would be lost."""

LONGEST_LINE = 1 << 16
"""Bytes of a header: a signed Location is longer than aiohttp's 8 KiB."""

READ_AHEAD = 1 << 19
"""Bytes; a connection waits for its reader when twice as many are here, which is the largest piece it reads."""

LARGEST_AT_ONCE = 1 << 20
"""Bytes of a body; larger ones aiohttp wants in a stream."""

_SET_BY_HTTPX = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Transport(httpx.AsyncBaseTransport):
    """Sends a request once, its URL as it is, on one of at most `connections`; without proxies, cookies and HTTP/2.

    ConnectError, ConnectTimeout and UnsupportedProtocol: nothing was sent. All else leaves it open. The timeout for the
    pool counts for the connection too, a write has none.
    """

    def __init__(self, connections: int, tls: ssl.SSLContext) -> None:
        self.connections = connections
        self._tls = tls
        tls.set_alpn_protocols(["http/1.1"])
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the answer's head, its body yet to be read."""
        data: Any = request.stream
        if isinstance(data, httpx.ByteStream) and len(content := await request.aread()) <= LARGEST_AT_ONCE:
            data = content or None
        limits = timeout_of(**request.extensions.get("timeout", {}))
        answer = await self.open(request.method, address_of(request.url), lines_of(request.headers), data, limits)
        return answer.as_httpx()

    async def open(
        self, method: str, url: str, headers: CIMultiDict[str], data: Any, limits: aiohttp.ClientTimeout
    ) -> AiohttpResponse:
        """Send a request, its headers complete, and return the answer's head; raises httpx's errors."""
        self._session = self._session or _session(self.connections, self._tls)
        with _errors():
            answer = await self._session.request(
                method,
                yarl.URL(url, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=limits,
            )
        return cast("AiohttpResponse", answer)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()


class Client(httpx.AsyncClient):
    """httpx's client with its transport at hand, and without settings from the environment.

    Its headers do not change; `lines` are the same for aiohttp.
    """

    def __init__(self, own: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__(transport=own, trust_env=False, **settings)
        self.own = own
        self.lines = lines_of(self.headers)


async def send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send a request, follow no redirect and leave the body to be read.

    Its transport gets it at once: the way through httpx's authentication, redirects and cookies costs 45 µs.
    """
    own = client.own if isinstance(client, Client) else None
    if own is None or request.url.userinfo or client.is_closed:  # httpx makes a header or an error of them
        return await client.send(request, stream=True, follow_redirects=False)
    response = await own.handle_async_request(request)
    response.request = request
    return await check_location(response)


async def check_location(response: httpx.Response) -> httpx.Response:
    """Return the response unless it redirects to what is no URL; as httpx: the server's fault, not the asked URL's."""
    if response.has_redirect_location:
        try:
            httpx.URL(response.headers["location"])
        except httpx.InvalidURL as error:
            await response.aclose()
            raise httpx.RemoteProtocolError(f"Invalid URL in location header: {error}") from error
    return response


def _session(connections: int, tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_Connector(limit=connections, ssl=tls, keepalive_timeout=IDLE_SECONDS),
        response_class=AiohttpResponse,
        middlewares=[_once],
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_SET_BY_HTTPX,
        auto_decompress=False,
        read_bufsize=READ_AHEAD,
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_LINE,
    )


class _Connector(aiohttp.TCPConnector):
    """A connector whose errors all mean that no byte of the request was sent."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        try:
            connection = await super().connect(req, traces, timeout)
            # Data that arrived while it was idle would be taken for the answer.
            while connection.protocol is not None and connection.protocol.should_close:
                connection.close()
                connection = await super().connect(req, traces, timeout)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ConnectError(str(error)) from error
        return connection


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Raise httpx's errors, so that aiohttp does not send a GET again when its connection breaks."""
    with _errors():
        return await handler(request)


class AiohttpResponse(aiohttp.ClientResponse):
    """aiohttp's response with httpx's errors. It remembers how its connection ended, which aiohttp does not."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the answer's head."""
        self._carrier = connection.protocol
        return await super().start(connection)

    def as_httpx(self) -> httpx.Response:
        """The answer as httpx's object, its body yet to be read."""
        return httpx.Response(self.status, headers=self.raw_headers, stream=_Stream(self))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, not unpacked; raises httpx's errors."""
        content = self.content
        with _errors():
            try:
                while piece := await self._piece():
                    yield piece
            except (aiohttp.ClientError, OSError):
                # Up to 1 MiB came before the break: without it a transfer could fail again and again at the same place.
                content.set_exception(None)  # type: ignore[arg-type] # or it is kept back
                if piece := content.read_nowait():
                    yield piece
                raise
            self._check_end()

    async def _piece(self) -> bytes:
        """What was received at once, b"" at the end; of a chunked body, whose pieces may be small, all that is here.

        To join larger ones costs a twentieth of a download.
        """
        if "Transfer-Encoding" in self.headers:
            return await self.content.readany()
        return (await self.content.readchunk())[0]

    def _check_end(self) -> None:
        """Raise aiohttp's error when a body without a length ended by a reset: aiohttp takes it for whole."""
        if "Content-Length" not in self.headers and "Transfer-Encoding" not in self.headers:
            error = None if self._carrier is None else self._carrier.exception()
            if isinstance(error, aiohttp.ClientOSError):
                raise error


class _Stream(httpx.AsyncByteStream):
    def __init__(self, response: AiohttpResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.pieces()

    async def aclose(self) -> None:
        self._response.close()


@contextmanager
def _errors() -> Iterator[None]:
    """Raise httpx's error for one of aiohttp's, about a request that may have been sent."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except OSError as error:
        raise httpx.ReadError(str(error)) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise httpx.RemoteProtocolError(str(error)) from error


def address_of(url: httpx.URL) -> str:
    """The URL as it is asked for."""
    return f"{url.scheme}://{url.netloc.decode()}{url.raw_path.decode()}"


def lines_of(headers: httpx.Headers) -> CIMultiDict[str]:
    """The headers for aiohttp."""
    return CIMultiDict((name.decode(headers.encoding), value.decode(headers.encoding)) for name, value in headers.raw)


@lru_cache
def timeout_of(
    connect: float | None = None, pool: float | None = None, read: float | None = None, write: float | None = None
) -> aiohttp.ClientTimeout:
    """What aiohttp calls `connect` is for waiting and connecting, `sock_connect` for each address of the host."""
    del write
    both = None if connect is None or pool is None else connect + pool
    return aiohttp.ClientTimeout(connect=both, sock_connect=connect, sock_read=read)
