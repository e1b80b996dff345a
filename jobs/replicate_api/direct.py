"""The calls that a worker makes most, past httpx's Request and Response: they cost more than all else of a small call.

Only what is plain takes this way. The rest takes httpx's, `transport.send`; errors and answers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx

from jobs.replicate_api.transport import (
    LARGEST_AT_ONCE,
    AiohttpResponse,
    Client,
    Transport,
    address_of,
    check_location,
    send,
    timeout_of,
)

PLAIN_PATH = re.compile(r"(?:/[\w~-][\w.~-]*)+(?:\?(?:[\w.~=&:,+/-]|%[0-9A-Fa-f]{2})*)?", re.ASCII)
"""A path and a query that httpx sends as they are."""


class Success:
    """A 2xx answer that is not packed: as much of httpx.Response as its callers need."""

    has_redirect_location = False

    def __init__(self, answer: AiohttpResponse) -> None:
        self.status_code = answer.status
        self.headers = httpx.Headers(answer.raw_headers)
        self.aiter_raw = answer.pieces
        self._close = answer.close

    async def aread(self) -> bytes:
        """Return the whole body."""
        return b"".join([piece async for piece in self.aiter_raw()])

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        self._close()


AnyResponse = httpx.Response | Success


async def open_path(
    client: httpx.AsyncClient, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
) -> AnyResponse | None:
    """Call a path below the client's base URL, without a limit of time for the answer; None: this needs httpx."""
    if not isinstance(client, Client) or (direct := _direct(client)) is None:
        return None
    if not PLAIN_PATH.fullmatch(path) or len(content or b"") > LARGEST_AT_ONCE:
        return None
    lines = client.lines.copy()
    lines.update(Host=client.base_url.netloc.decode(), **headers)
    limits = timeout_of(connect=client.timeout.connect, pool=client.timeout.pool)
    url = address_of(client.base_url) + path[1:]
    return await _answer(await direct.open(method, url, lines, content, limits))


async def open_url(client: httpx.AsyncClient, url: httpx.URL, headers: Mapping[str, str]) -> AnyResponse:
    """GET a URL, within the client's timeouts."""
    if not isinstance(client, Client) or url.userinfo or (direct := _direct(client)) is None:
        return await send(client, client.build_request("GET", url, headers=headers))
    lines = client.lines.copy()
    lines.update(Host=url.netloc.decode(), **headers)
    limits = timeout_of(**client.timeout.as_dict())
    return await _answer(await direct.open("GET", address_of(url), lines, None, limits))


def _direct(client: Client) -> Transport | None:
    return client.own if isinstance(client.own, Transport) and not client.is_closed else None


async def _answer(answer: AiohttpResponse) -> AnyResponse:
    if 200 <= answer.status < 300 and "Content-Encoding" not in answer.headers:
        return Success(answer)
    return await check_location(answer.as_httpx())
