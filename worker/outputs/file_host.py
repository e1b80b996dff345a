"""One request for an output file: its redirects are checked, and a transfer that stalls or crawls is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

import httpx

from jobs.config import Config
from jobs.errors import BrokenDownload, FileRefused, OutputError, OutputGone
from jobs.replicate_api.client import BROKEN, CONNECT_SECONDS, make_client, reason_of
from jobs.replicate_api.direct import AnyResponse, open_url
from worker.outputs.allowed_urls import check_output_url
from worker.outputs.content_coding import is_packed, unpack
from worker.outputs.file_response import FileResponse

STALL_SECONDS = 30.0
"""A download that brings no byte for so long is broken."""

SLOW_SECONDS, SLOW_BYTES = 60.0, 30_000
"""So is one that brings fewer bytes in so long a wait for them: it would keep its slot from others for ever."""

MAX_REDIRECTS = 5


def files_client(config: Config) -> httpx.AsyncClient:
    """Return the client for output hosts: no token, a connection for each of MAX_DOWNLOADS."""
    return file_client(config.max_downloads)


def file_client(connections: int = 1) -> httpx.AsyncClient:
    """Return a client for output hosts with that many connections at most."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    return make_client(connections, headers, httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS, pool=None))


@asynccontextmanager
async def open_file(
    client: httpx.AsyncClient,
    url: str,
    *,
    hosts: Sequence[str],
    headers: Mapping[str, str] | None = None,
    slow_after: float = SLOW_SECONDS,
) -> AsyncIterator[FileResponse]:
    """Open one output file; every redirect, 5 at most, is checked against `hosts` before it is followed.

    A transfer that has brought too little after `slow_after` seconds of waiting is given up. Yields a FileResponse of
    status 200, 206 or 416; raises FileRefused, OutputGone or BrokenDownload.
    """
    response, place = await _follow(client, url, hosts, headers or {}, slow_after)
    try:
        if error := _file_refusal(response.status_code, url):
            raise error
        async with aclosing(_chunks(response, url, slow_after)) as chunks:
            yield await _file_answer(response, chunks, url, place)
    finally:
        await response.aclose()


async def _file_answer(
    response: AnyResponse, chunks: AsyncGenerator[bytes, None], url: str, place: httpx.URL
) -> FileResponse:
    headers = dict(response.headers.items())
    coding = headers.get("content-encoding", "")
    if response.status_code != 200 or not is_packed(coding):
        return FileResponse(response.status_code, headers, chunks, packed=is_packed(coding))
    unpacked, packed = await unpack(chunks, coding, url, place.path)
    return FileResponse(response.status_code, headers, unpacked, packed=packed)


async def _follow(
    client: httpx.AsyncClient, url: str, hosts: Sequence[str], headers: Mapping[str, str], seconds: float
) -> tuple[AnyResponse, httpx.URL]:
    place = url
    for _ in range(MAX_REDIRECTS + 1):
        checked = check_output_url(place, hosts)
        with _file_errors(url):
            async with asyncio.timeout(seconds):  # the transport's own timeout restarts with each byte of the head
                response = await open_url(client, checked, headers)
        if not response.has_redirect_location:
            return response, checked
        await response.aclose()
        with _file_errors(url):
            place = str(checked.join(response.headers["location"]))
    raise BrokenDownload(f"{url[:200]}: more than {MAX_REDIRECTS} redirects", url)


async def _chunks(response: AnyResponse, url: str, slow_after: float) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    waited, brought, asked_at = 0.0, 0, loop.time()
    with _file_errors(url):
        async for chunk in response.aiter_raw():
            waited, brought = waited + loop.time() - asked_at, brought + len(chunk)
            if waited > slow_after:
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
    except BROKEN as error:
        raise BrokenDownload(f"{url[:200]}: the transfer broke ({reason_of(error)})", url) from error
