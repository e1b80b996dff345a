"""What takes the way past httpx's Request and Response objects is asked, answered and refused as through them."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as FileWriter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from jobs.config import Config
from jobs.errors import OutputError, ReplicateError
from jobs.replicate_api.client import api_client, call
from jobs.replicate_api.direct import Success, open_path
from jobs.replicate_api.transport import Transport
from tests.broken_servers import (
    AFTER_CONNECTING,
    HANGS,
    HEAD,
    Handler,
    never_answers,
    read_request,
    reset,
    resets_at_once,
)
from tests.ports import free_port
from worker.outputs.file_host import files_client, open_file

HOSTS = ("127.0.0.1", "localhost")
LARGE = 1_000_000
"""Characters of an input that is not sent at once, but goes past httpx still."""


def through_httpx(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same client, whose requests and responses are all httpx's."""
    own = Transport(10, ssl.create_default_context())
    settings: dict[str, Any] = {"base_url": client.base_url, "headers": client.headers, "timeout": client.timeout}
    return httpx.AsyncClient(transport=own, cookies=client.cookies.jar, trust_env=False, **settings)


async def both_ways(
    client: httpx.AsyncClient, ask: Callable[[httpx.AsyncClient], Awaitable[Any]], address: str
) -> tuple[Any, Any]:
    """What comes of a question, an answer or the text of an error, past httpx and through it."""

    async def outcome(asking: httpx.AsyncClient) -> Any:
        async with asking:
            try:
                return await ask(asking)
            except (ReplicateError, OutputError) as error:
                facts = {name: value for name, value in vars(error).items() if name != "url"}
                said = str(error).replace(address, "host").partition(" (")[0]  # the system's reason may vary
                return type(error), said, facts

    other = through_httpx(client)
    return await asyncio.gather(outcome(client), outcome(other))


def api(base_url: str, connect: float = 5) -> httpx.AsyncClient:
    client = api_client(Config.load(replicate_base_url=base_url, replicate_api_token="r8_secret"))
    client.timeout = httpx.Timeout(30, connect=connect, pool=connect)
    return client


async def created(base_url: str, seconds: float = 10, connect: float = 5, size: int = 0) -> Any:
    async def create(client: httpx.AsyncClient) -> Any:
        answer = await call(client, "POST", "/v1/predictions", json={"input": "x" * size}, timeout=seconds)
        return answer.status, answer.body, dict(answer.headers.items())

    past, through = await both_ways(api(base_url, connect), create, base_url.partition("://")[2])
    assert past == through
    return past


async def downloaded(url: str, address: str) -> Any:
    async def download(client: httpx.AsyncClient) -> Any:
        async with open_file(client, url, hosts=HOSTS) as file:
            return file.status, dict(file.headers), b"".join([chunk async for chunk in file.chunks])

    client = files_client(Config.load(max_downloads=2))
    client.timeout = httpx.Timeout(0.5, connect=5, pool=None)
    past, through = await both_ways(client, download, address)
    assert past == through
    return past


async def resets_in_the_request(reader: Reader, writer: FileWriter) -> None:
    await reader.readexactly(100)
    reset(writer)


async def answers_in_the_request(reader: Reader, writer: FileWriter) -> None:
    await reader.readexactly(100)
    body = b'{"detail": "too early"}'
    writer.write(b"HTTP/1.1 422 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    await reader.read()


async def answers_well_in_the_request(reader: Reader, writer: FileWriter) -> None:
    await reader.readexactly(100)
    writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize(
    "handler",
    [*AFTER_CONNECTING, resets_in_the_request, answers_in_the_request, answers_well_in_the_request],
    ids=lambda handler: handler.__name__,
)
async def test_each_way_a_connection_fails_is_the_same_error(handler: Handler, raw_server: Any) -> None:
    address = await raw_server(handler)
    size = LARGE if handler.__name__.endswith("in_the_request") else 0
    await created(f"http://{address}", seconds=0.5 if handler in HANGS else 10, size=size)
    if handler not in HANGS or handler is never_answers:
        await downloaded(f"http://{address}/a.png", address)


async def test_each_way_no_connection_comes_about_is_the_same_error(raw_server: Any) -> None:
    refused = f"127.0.0.1:{free_port()}"
    assert "no connection" in (await created(f"http://{refused}"))[1]
    assert "the transfer broke" in (await downloaded(f"http://{refused}/a.png", refused))[1]
    assert "no connection" in (await created("http://api.replicate.invalid"))[1]
    for handler, connect in ((resets_at_once, 5.0), (never_answers, 0.2)):
        assert "no connection" in (await created(f"https://{await raw_server(handler)}", connect=connect))[1]


ANSWERS = [
    b"200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"201\r\nContent-Length: 2\r\nA: 1\r\na: 2\r\nDate: now\r\n\r\n{}",
    "200 Ö\r\nX: ö\r\nContent-Length: 2\r\n\r\n{}".encode("latin-1"),
    b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
    b"200 OK\r\nX: " + b"x" * 20_000 + b"\r\nContent-Length: 4\r\n\r\n[[]]",
    b"204 No Content\r\n\r\n",
    b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"{}", mtime=0),
    b"200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    b"302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n",
    b"302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    b'422 No\r\nContent-Length: 16\r\n\r\n{"detail": "no"}',
    b"429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    b"503 No\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>",
]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_each_answer_is_the_same(answer: bytes, raw_server: Any) -> None:
    async def serve(reader: Reader, writer: FileWriter) -> None:
        while await read_request(reader):
            writer.write(b"HTTP/1.1 " + answer)
            await writer.drain()

    address = await raw_server(serve)
    await created(f"http://{address}")
    await downloaded(f"http://{address}/a.png", address)


async def test_what_is_asked_is_the_same(raw_server: Any) -> None:
    requests: list[bytes] = []

    async def record(reader: Reader, writer: FileWriter) -> None:
        while request := await read_request(reader):
            requests.append(request)
            writer.write(HEAD + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()

    address = (await raw_server(record)).replace("127.0.0.1", "localhost")  # cookies are for names

    async def ask(client: httpx.AsyncClient) -> None:
        await call(client, "POST", "/v1/predictions", json={"input": "ö"}, headers={"Cancel-After": "9s"})
        await call(client, "POST", "/v1/predictions/x/cancel")
        await call(client, "GET", "/v1/predictions?created_after=2026-11-28T11%3A00%3A00.000%2B01%3A00&cursor=a+b")
        await call(client, "GET", "/v1/predictions/../a%2fb?c=d e")

    for client in (api(f"http://{address}"), through_httpx(api(f"http://{address}"))):
        async with client:
            await ask(client)
    lines = [sorted(map(bytes.lower, request.split(b"\r\n"))) for request in requests]
    assert lines[:4] == lines[4:]
    assert len(requests) == 8


async def test_only_what_is_plain_goes_past_httpx(raw_server: Any) -> None:
    async def serve(reader: Reader, writer: FileWriter) -> None:
        while await read_request(reader):
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
            await writer.drain()

    address = await raw_server(serve)
    async with api(f"http://{address}") as client:
        response = await open_path(client, "GET", "/v1/predictions/x", None, {})
        assert isinstance(response, Success)
        async with aclosing(response):
            assert await response.aread() == b"{}"
        for path in ("/v1/a b", "//evil.example/v1", "/v1/../x", f"http://{address}/v1", "v1", ""):
            assert await open_path(client, "GET", path, None, {}) is None
        assert await open_path(client, "POST", "/v1/x", bytes(1 << 21), {}) is None
    assert await open_path(client, "GET", "/v1/predictions/x", None, {}) is None  # httpx says that it is closed
