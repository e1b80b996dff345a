from __future__ import annotations

import asyncio
import hashlib
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as FileWriter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from jobs.config import Config
from jobs.errors import InvalidRequest, NotFound, NotSent, Unanswered
from jobs.replicate_api.client import Body, api_client, upload
from jobs.replicate_api.files import Files

PIECE = 1 << 18
HttpOf = Callable[[str], httpx.AsyncClient]
both = pytest.mark.usefixtures("transport")


async def pieces(*all_: bytes) -> AsyncIterator[bytes]:
    for piece in all_:
        yield piece


@pytest.fixture
async def files(config: Config, simulator: Any) -> AsyncIterator[Files]:
    simulator.settings(limiter="off")
    async with api_client(config) as http:
        yield Files(http)


@both
async def test_a_file_is_uploaded_listed_and_deleted(files: Files) -> None:
    metadata = {"batch": "b1"}
    file = await files.create(pieces(b"hel", b"", b"lo"), 5, 'Grüße "2".txt', "text/plain", metadata)
    assert file.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert file.metadata == metadata
    assert file.expires_at == pytest.approx((file.created_at or 0) + 86_400)
    assert [found.id for found in (await files.list()).files] == [file.id]
    await files.delete(file.id)
    with pytest.raises(NotFound):
        await files.delete(file.id)
    assert (await files.list()).files == ()


@both
async def test_what_is_too_large_is_refused(files: Files, simulator: Any) -> None:
    simulator.settings(max_upload=100)
    with pytest.raises(InvalidRequest, match="100MB") as refused:
        await files.create(pieces(b"x" * 50_000), 50_000, "a", "text/plain", {})
    assert refused.value.status == 413


@pytest.fixture
async def http_of() -> AsyncIterator[HttpOf]:
    async with AsyncExitStack() as stack:

        def make(address: str) -> httpx.AsyncClient:
            http = api_client(Config.load(replicate_base_url=f"http://{address}", replicate_api_token="r8_x"))
            stack.push_async_callback(http.aclose)
            return http

        yield make


@both
async def test_a_large_file_is_read_no_faster_than_it_leaves(raw_server: Any, http_of: HttpOf) -> None:
    count, read, most = 160, 0, 0

    async def slow(reader: Reader, writer: FileWriter) -> None:
        nonlocal most
        received = 0
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert b"chunked" not in head.lower()
        while received < length:
            received += len(await reader.read(PIECE))
            most = max(most, read * PIECE - received)
        body = b'{"id": "x", "urls": {"get": "http://a/v1/files/x"}}'
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async def content() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(count):
            read += 1
            yield b"x" * PIECE

    file = await Files(http_of(await raw_server(slow))).create(content(), count * PIECE, "a", "text/plain", {})
    assert (file.id, read) == ("x", count)
    assert most < count * PIECE / 2


@both
async def test_a_body_that_ends_too_soon_is_no_upload(files: Files, simulator: Any) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise OSError("the disk is gone")

    with pytest.raises(Unanswered):
        await files.create(torn(), 1000, "a", "text/plain", {})
    assert "201" not in simulator.ledger()["answers"]
    assert (await files.list()).files == ()


@both
async def test_an_upload_may_take_longer_than_a_call_but_not_stall(raw_server: Any, http_of: HttpOf) -> None:
    async def reads_and_never_answers(reader: Reader, _: FileWriter) -> None:
        while await reader.read(PIECE):
            pass

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(8):
            await asyncio.sleep(0.1)
            yield b"x"

    http = http_of(await raw_server(reads_and_never_answers))
    http.timeout = httpx.Timeout(30, write=0.4)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unanswered):
        await upload(http, "/v1/files", Body(slow(), 8, "text/plain"))
    assert asyncio.get_running_loop().time() - begun > 0.8


async def test_nothing_listens(unused_tcp_port: int, http_of: HttpOf) -> None:
    with pytest.raises(NotSent):
        await Files(http_of(f"127.0.0.1:{unused_tcp_port}")).create(pieces(b"x"), 1, "a", "text/plain", {})
    with pytest.raises(NotSent):
        await Files(http_of(f"127.0.0.1:{unused_tcp_port}")).list("http://evil.example/v1/files?cursor=x")


async def test_an_answer_that_is_no_file_leaves_it_open(raw_server: Any, http_of: HttpOf) -> None:
    async def odd(reader: Reader, writer: FileWriter) -> None:
        await reader.readuntil(b"--\r\n")
        writer.write(b'HTTP/1.1 201 Created\r\nContent-Length: 11\r\n\r\n{"id": "x"}')
        await writer.drain()

    with pytest.raises(Unanswered, match="no URL"):
        await Files(http_of(await raw_server(odd))).create(pieces(b"x"), 1, "a", "text/plain", {})
