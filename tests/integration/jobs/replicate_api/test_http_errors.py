from __future__ import annotations

import asyncio
import gzip
import socket
import sys
import traceback
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as FileWriter
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from jobs.config import Config
from jobs.errors import BrokenDownload, FileRefused, NotSent, OutputError, ReplicateError, Unanswered
from jobs.replicate_api.client import api_client, call, make_client
from tests.broken_servers import (
    AFTER_CONNECTING,
    HANGS,
    HEAD,
    Handler,
    never_answers,
    never_reads,
    read_request,
    reset,
    resets_at_once,
)
from tests.ports import free_port
from worker.outputs.file_host import files_client, open_file

pytestmark = pytest.mark.usefixtures("transport")


def config(base_url: str, **settings: Any) -> Config:
    settings = {"replicate_api_token": "r8_secret", "output_hosts": ("127.0.0.1", "localhost")} | settings
    return Config.load(replicate_base_url=base_url, **settings)


async def create(base_url: str, seconds: float = 10, size: int = 0, connect: float = 5) -> ReplicateError:
    async with api_client(config(base_url)) as client:
        client.timeout = httpx.Timeout(30, connect=connect)
        with pytest.raises(ReplicateError) as caught:
            await call(client, "POST", "/v1/predictions", json={"input": "x" * size}, timeout=seconds)
    assert "r8_secret" not in "".join(traceback.format_exception(caught.value))
    return caught.value


@pytest.mark.parametrize("handler", AFTER_CONNECTING)
async def test_once_connected_a_request_may_have_had_its_effect(handler: Handler, raw_server: Any) -> None:
    hangs = handler in HANGS
    error = await create(f"http://{await raw_server(handler)}", seconds=0.5 if hangs else 10)
    assert type(error) is Unanswered
    assert hangs or "within" not in str(error)


async def test_an_upload_that_is_stuck_may_have_had_its_effect(raw_server: Any) -> None:
    """8 MB are more than all buffers hold."""
    error = await create(f"http://{await raw_server(never_reads)}", seconds=0.5, size=8_000_000)
    assert type(error) is Unanswered
    assert "within" in str(error)


async def test_an_upload_that_is_cut_may_have_had_its_effect(raw_server: Any) -> None:
    async def cuts(reader: Reader, writer: FileWriter) -> None:
        await reader.readexactly(100_000)
        reset(writer)

    assert type(await create(f"http://{await raw_server(cuts)}", size=8_000_000)) is Unanswered


async def test_a_refused_connection_sent_nothing() -> None:
    assert type(await create(f"http://127.0.0.1:{free_port()}")) is NotSent


async def test_an_unknown_host_sent_nothing() -> None:
    assert type(await create("http://api.replicate.invalid")) is NotSent


async def test_tls_that_fails_sent_nothing(raw_server: Any) -> None:
    async def garbage(reader: Reader, writer: FileWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    for handler in (garbage, resets_at_once):
        assert type(await create(f"https://{await raw_server(handler)}")) is NotSent


async def test_tls_that_never_comes_about_sent_nothing(raw_server: Any) -> None:
    assert type(await create(f"https://{await raw_server(never_answers)}", connect=0.2)) is NotSent


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog may refuse")
async def test_a_connection_that_never_comes_about_sent_nothing() -> None:
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(full.getsockname())
        assert type(await create(f"http://127.0.0.1:{full.getsockname()[1]}", connect=0.2)) is NotSent


async def test_waiting_for_a_connection_of_the_pool_sent_nothing(raw_server: Any) -> None:
    async with make_client(
        1, {}, httpx.Timeout(30, connect=0.5, pool=0.5), f"http://{await raw_server(never_answers)}"
    ) as client:
        errors = await asyncio.gather(outcome(client), outcome(client))
    assert {type(error) for error in errors} == {NotSent, Unanswered}


async def outcome(client: httpx.AsyncClient) -> ReplicateError:
    with pytest.raises(ReplicateError) as caught:
        await call(client, "GET", "/v1/account", timeout=2)
    return caught.value


async def test_a_request_is_sent_once_with_the_token_and_nothing_follows_a_redirect(raw_server: Any) -> None:
    requests: list[bytes] = []

    async def redirect(reader: Reader, writer: FileWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(b"HTTP/1.1 307 X\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    assert type(await create(f"http://{await raw_server(redirect)}")) is Unanswered
    assert len(requests) == 1
    assert b"Authorization: Bearer r8_secret\r\n" in requests[0]
    assert b"\r\nUser-Agent: replicate-batch" in requests[0]


async def download(url: str, stall: float = 30, **settings: Any) -> bytes:
    async with files_client(config("http://127.0.0.1", **settings)) as client:
        client.timeout = httpx.Timeout(stall)
        async with open_file(client, url, hosts=("127.0.0.1", "localhost")) as answer:
            return b"".join([chunk async for chunk in answer.chunks])


@pytest.mark.parametrize("handler", [each for each in AFTER_CONNECTING if each not in HANGS or each is never_answers])
async def test_each_broken_transfer_is_a_broken_download(handler: Handler, raw_server: Any) -> None:
    with pytest.raises(BrokenDownload):
        await download(f"http://{await raw_server(handler)}/out.png", stall=0.3)


async def stops_in_the_body(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
    await asyncio.Event().wait()


@pytest.mark.parametrize("handler", [never_answers, stops_in_the_body])
async def test_a_host_that_stops_sending_is_given_up(handler: Handler, raw_server: Any) -> None:
    with pytest.raises(BrokenDownload, match="ReadTimeout"):
        await download(f"http://{await raw_server(handler)}/out.png", stall=0.3)


async def test_a_file_host_that_is_not_there_is_a_broken_download() -> None:
    with pytest.raises(BrokenDownload):
        await download(f"http://127.0.0.1:{free_port()}/out.png")


async def test_a_file_request_has_no_token_and_no_cookies_and_wants_plain_bytes(file_host: Any, reply: Any) -> None:
    moved = reply(status=302, headers={"Location": "/b.png?sig=a%2Fb~c", "Set-Cookie": "session=1; Path=/"})
    url = file_host.serve("/a.png", moved)
    file_host.serve("/b.png?sig=a%2Fb~c", reply(b"bytes", headers={"Set-Cookie": "session=2"}))
    assert await download(url) == b"bytes"
    assert [path for path, _ in file_host.requests] == ["/a.png", "/b.png?sig=a%2Fb~c"]
    for _, headers in file_host.requests:
        assert headers["accept-encoding"] == "identity"
        assert not {"authorization", "cookie"} & headers.keys()


async def test_a_compressed_transfer_is_unpacked(file_host: Any, reply: Any) -> None:
    packed = gzip.compress(b"abc" * 1000)
    url = file_host.serve("/a.txt", reply(packed, headers={"Content-Encoding": "gzip", "ETag": '"' + "0" * 32 + '"'}))
    assert await download(url) == b"abc" * 1000
    async with files_client(config("http://127.0.0.1")) as client, open_file(client, url, hosts=("127.0.0.1",)) as file:
        assert (file.length, file.validator, file.checksum) == (None, None, None)


@pytest.mark.parametrize(
    "place",
    [
        "http://evil.example/x",
        "https://evil.example/x",
        "//evil.example/x",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "data:text/plain,x",
        "http://user@127.0.0.1/x",
    ],
)
async def test_no_redirect_leads_to_another_host(place: str, file_host: Any, reply: Any) -> None:
    url = file_host.serve("/a.png", reply(status=301, headers={"Location": place}))
    with pytest.raises(FileRefused):
        await download(url)
    assert len(file_host.requests) == 1


@pytest.mark.parametrize("place", ["https://127.0.0.1:x/", "http://[", "http://\xff\x01/"])
async def test_a_redirect_to_nowhere_is_an_error_of_ours(place: str, file_host: Any, reply: Any) -> None:
    url = file_host.serve("/a.png", reply(status=301, headers={"Location": place}))
    with pytest.raises(OutputError):
        await download(url)


async def test_five_redirects_are_followed_and_no_more(file_host: Any, reply: Any) -> None:
    for number in range(6):
        file_host.serve(f"/{number}", reply(status=307, headers={"Location": f"/{number + 1}"}))
    file_host.serve("/6", b"there")
    assert await download(f"http://{file_host.address}/1") == b"there"
    with pytest.raises(BrokenDownload, match="redirects"):
        await download(f"http://{file_host.address}/0")


async def test_a_file_is_never_asked_of_an_unlisted_host(file_host: Any) -> None:
    url = file_host.serve("/a.png", b"x")
    async with files_client(config("http://127.0.0.1")) as client:
        with pytest.raises(OutputError):
            async with open_file(client, url, hosts=("replicate.delivery",)):
                pytest.fail("it opened")
    assert file_host.requests == []
