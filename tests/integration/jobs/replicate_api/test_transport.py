"""What the connections under httpx do, ours and httpx's own alike, against servers that have the bare connection."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as FileWriter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.config import Config
from jobs.errors import BrokenDownload, NotSent, ReplicateError, Unanswered
from jobs.replicate_api.client import api_client, call
from worker.outputs.file_host import files_client, open_file

CERTIFICATE = Path(__file__).parents[2] / "localhost.pem"  # for 127.0.0.1 and localhost, good for a hundred years
OK = b"HTTP/1.1 200 OK\r\n"
HOSTS = ("127.0.0.1",)

both = pytest.mark.usefixtures("transport")


def api(address: str, scheme: str = "http") -> httpx.AsyncClient:
    return api_client(Config.load(replicate_base_url=f"{scheme}://{address}", replicate_api_token="r8_secret"))


def files(connections: int = 1) -> httpx.AsyncClient:
    return files_client(Config.load(max_downloads=connections))


async def read_head(reader: Reader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answer(body: bytes, *lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in (b"Content-Length: %d" % len(body), *lines)) + b"\r\n" + body


async def number(client: httpx.AsyncClient, seconds: float = 10) -> Any:
    return (await call(client, "GET", "/v1/account", timeout=seconds)).body["number"]


@both
async def test_what_comes_unasked_is_no_answer(raw_server: Any, eventually: Any) -> None:
    """A create would take another prediction for its own."""
    said = 0

    async def says_more_than_it_is_asked(reader: Reader, writer: FileWriter) -> None:
        nonlocal said
        await read_head(reader)
        writer.write(answer(b'{"number": 1}'))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(answer(b'{"number": 2}'))
        await writer.drain()
        said += 1
        await read_head(reader)

    async with api(await raw_server(says_more_than_it_is_asked)) as client:
        for turn in range(1, 4):
            assert await number(client) == 1
            await eventually(lambda turn=turn: said == turn)
            await asyncio.sleep(0.05)


async def test_of_two_answers_at_once_the_second_is_nobodys(raw_server: Any) -> None:
    """Httpx's own transport takes it for the answer to the next call."""

    async def says_it_twice(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(answer(b'{"number": 1}') + answer(b'{"number": 2}'))
        await writer.drain()
        await read_head(reader)

    async with api(await raw_server(says_it_twice)) as client:
        assert [await number(client) for _ in range(3)] == [1, 1, 1]


@both
async def test_a_late_answer_is_nobody_elses(raw_server: Any) -> None:
    requests = 0
    given_up = asyncio.Event()

    async def is_late_once(reader: Reader, writer: FileWriter) -> None:
        nonlocal requests
        while await read_head(reader):
            requests += 1
            mine = requests
            if mine == 1:
                await given_up.wait()
            writer.write(answer(b'{"number": %d}' % mine))
            await writer.drain()

    async with api(await raw_server(is_late_once)) as client:
        with pytest.raises(Unanswered):
            await number(client, seconds=0.5)
        given_up.set()
        assert [await number(client), await number(client)] == [2, 3]


@both
async def test_a_request_whose_connection_breaks_is_not_sent_again(raw_server: Any) -> None:
    requests: list[bytes] = []

    async def hangs_up_on_the_second(reader: Reader, writer: FileWriter) -> None:
        requests.append(await read_head(reader))
        writer.write(answer(b'{"number": 1}'))
        await writer.drain()
        requests.append(await read_head(reader))

    async with api(await raw_server(hangs_up_on_the_second)) as client:
        assert await number(client) == 1
        with pytest.raises(Unanswered):
            await number(client)
        assert len(requests) == 2


@both
async def test_a_connection_that_was_closed_meanwhile_is_not_used(raw_server: Any, eventually: Any) -> None:
    connections = closed = 0

    async def hangs_up(reader: Reader, writer: FileWriter) -> None:
        nonlocal connections, closed
        connections += 1
        await read_head(reader)
        writer.write(answer(b'{"number": %d}' % connections))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed += 1

    async with api(await raw_server(hangs_up)) as client:
        for turn in range(1, 4):
            assert await number(client) == turn
            await eventually(lambda turn=turn: closed == turn)
            await asyncio.sleep(0.02)


@both
async def test_one_connection_serves_many_calls(raw_server: Any) -> None:
    connections = 0

    async def serve(reader: Reader, writer: FileWriter) -> None:
        nonlocal connections
        connections += 1
        while await read_head(reader):
            writer.write(answer(b'{"number": 1}'))
            await writer.drain()

    async with api(await raw_server(serve)) as client:
        for _ in range(20):
            await number(client)
    assert connections == 1


@both
async def test_no_more_connections_than_agreed_and_none_is_lost_by_a_cancelled_call(
    raw_server: Any, eventually: Any
) -> None:
    now = most = hanging = 0

    async def count(reader: Reader, writer: FileWriter) -> None:
        nonlocal now, most, hanging
        while head := await read_head(reader):
            if b"/hang" in head:
                hanging += 1
                await reader.read()
                return
            now, most = now + 1, max(most, now + 1)
            await asyncio.sleep(0.01)
            writer.write(answer(b"bytes"))
            now -= 1
            await writer.drain()

    address = await raw_server(count)

    async def read(client: httpx.AsyncClient, path: str) -> bytes:
        async with open_file(client, f"http://{address}/{path}", hosts=HOSTS) as file:
            return b"".join([chunk async for chunk in file.chunks])

    async with files(3) as client:
        stuck = [asyncio.create_task(read(client, "hang")) for _ in range(30)]
        await eventually(lambda: hanging == 3)
        await asyncio.sleep(0.05)
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
        assert await asyncio.gather(*[read(client, "go") for _ in range(30)]) == [b"bytes"] * 30
    assert (hanging, most) == (3, 3)


@both
async def test_a_request_is_sent_as_it_is(raw_server: Any) -> None:
    requests: list[list[bytes]] = []

    async def record(reader: Reader, writer: FileWriter) -> None:
        while head := await read_head(reader):
            requests.append(head.split(b"\r\n"))
            await reader.readexactly(12 if head.startswith(b"POST /v1/predictions ") else 0)
            writer.write(answer(b"{}", b"Set-Cookie: a=b"))
            await writer.drain()

    address = (await raw_server(record)).replace("127.0.0.1", "localhost")  # cookies are for names
    path = "/a%2Fb%7Ec~d%40e@f%zz;g=h,i+j?sig=a%2Fb%2C,c%3D&x=%20y+z&empty="
    async with api(address) as client, files() as file_client:
        for _ in range(2):  # the second without the cookie of the first
            await call(client, "POST", "/v1/predictions", json={"input": {}}, headers={"Prefer": "wait=1"})
        await call(client, "POST", "/v1/predictions/x/cancel")
        async with open_file(file_client, f"http://{address}{path}", hosts=("localhost",)) as file:
            assert [chunk async for chunk in file.chunks] == [b"{}"]
    created, again, canceled, downloaded = ([head[0], *sorted(map(bytes.lower, head[1:-2]))] for head in requests)
    agent = next(line for line in created if line.startswith(b"user-agent: replicate-batch"))
    kept, host = b"connection: keep-alive", b"host: " + address.encode()
    api_lines = [
        b"accept-encoding: gzip, deflate",
        b"accept: application/json",
        b"authorization: bearer r8_secret",
        kept,
    ]
    assert created == again == [
        b"POST /v1/predictions HTTP/1.1",
        *api_lines,
        b"content-length: 12",
        b"content-type: application/json",
        host,
        b"prefer: wait=1",
        agent,
    ]  # fmt: skip
    assert canceled == [b"POST /v1/predictions/x/cancel HTTP/1.1", *api_lines, b"content-length: 0", host, agent]
    line = b"GET " + path.encode() + b" HTTP/1.1"
    assert downloaded == [line, b"accept-encoding: identity", b"accept: */*", kept, host, agent]


VALID = [
    pytest.param(b'Content-Length: 13\r\n\r\n{"number": 1}', id="length"),
    pytest.param(b'\r\n{"number": 1}', id="until-it-ends"),
    pytest.param(b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"n\r\na;x=y\r\number": 1}\r\n0\r\n\r\n', id="chunked"),
    pytest.param(b"X: " + b"x" * 20_000 + b'\r\nContent-Length: 13\r\n\r\n{"number": 1}', id="large-header"),
]


@both
@pytest.mark.parametrize("rest", VALID)
async def test_every_form_of_answer_is_understood(rest: bytes, raw_server: Any) -> None:
    async def serve(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201\r\nDate: today\r\n" + rest)
        await writer.drain()

    async with api(await raw_server(serve)) as client:
        got = await call(client, "POST", "/v1/predictions", json={})
    assert (got.status, got.body, got.headers["dATE"]) == (201, {"number": 1}, "today")


@both
async def test_a_large_body_arrives_whole(raw_server: Any) -> None:
    async def measure(reader: Reader, writer: FileWriter) -> None:
        while head := await read_head(reader):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert b"chunked" not in head.lower()
            assert (await reader.readexactly(length)).startswith(b'{"input":"xxx')
            writer.write(answer(b'{"number": %d}' % length))
            await writer.drain()

    async with api(await raw_server(measure)) as client:
        for size in (1 << 20, 3_000_000):
            got = await call(client, "POST", "/v1/predictions", json={"input": "x" * size})
            assert got.body["number"] == size + len('{"input":""}')


@both
@pytest.mark.parametrize("rest", [b"Content-Length: 2000000\r\n", b""])
async def test_what_came_before_a_break_is_kept(rest: bytes, raw_server: Any) -> None:
    """Or a host that breaks off at the same place again and again would never be done with."""
    came = asyncio.Event()

    async def breaks_off(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(OK + rest + b"\r\n" + bytes(300_000))
        await writer.drain()
        await came.wait()
        writer.transport.abort()

    url = f"http://{await raw_server(breaks_off)}/x"
    brought = 0
    async with files() as client, open_file(client, url, hosts=HOSTS) as file:
        with suppress(BrokenDownload):
            async for chunk in file.chunks:
                brought += len(chunk)
                came.set()
                await asyncio.sleep(0.05)
    assert brought == 300_000


@both
async def test_a_slow_disk_holds_the_host_back(raw_server: Any) -> None:
    sent = 0

    async def pour(reader: Reader, writer: FileWriter) -> None:
        nonlocal sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        await read_head(reader)
        writer.write(OK + b"Content-Length: 100000000\r\n\r\n")
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    url = f"http://{await raw_server(pour)}/x"
    async with files() as client, open_file(client, url, hosts=HOSTS) as file:
        assert await anext(file.chunks)
        await asyncio.sleep(0.5)
        assert sent < 20_000_000


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture
async def tls_address(raw_server: Any, tls: ssl.SSLContext) -> str:
    async def serve(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(answer(b'{"number": 1}'))
        await writer.drain()

    return str(await raw_server(serve, tls=tls))


@both
async def test_a_certificate_that_nobody_vouches_for_sends_nothing(tls_address: str) -> None:
    async with api(tls_address, "https") as client:
        with pytest.raises(NotSent, match="certificate"):
            await number(client)


@both
async def test_certificates_of_ones_own_are_trusted(tls_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with api(tls_address, "https") as client:
        assert await number(client) == 1


@both
async def test_a_certificate_for_another_host_sends_nothing(tls_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with api(tls_address.replace("127.0.0.1", "127.0.0.2"), "https") as client:
        with pytest.raises(NotSent):
            await number(client)


async def outcome(base_url: str) -> Any:
    async with api_client(Config.load(replicate_base_url=base_url, replicate_api_token="r8_secret")) as client:
        try:
            return await number(client)
        except ReplicateError as error:
            return type(error)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`proxy(address)`: what the environment says from now on."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def use(address: str) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://me:secret@{address}")

    return use


async def test_a_proxy_is_asked_and_told_who_asks(raw_server: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    async def forward(reader: Reader, writer: FileWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(answer(b'{"number": 7}'))
        await writer.drain()

    proxy(await raw_server(forward))
    assert await outcome("http://api.replicate.invalid") == 7
    assert heads[0].startswith(b"GET http://api.replicate.invalid/v1/account HTTP/1.1\r\n")
    assert b"proxy-authorization: basic bwu6c2vjcmv0" in heads[0].lower()
    monkeypatch.setenv("NO_PROXY", "api.replicate.invalid")
    assert await outcome("http://api.replicate.invalid") is NotSent


async def test_a_tunnel_leads_to_the_api(
    raw_server: Any, proxy: Any, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def tunnel(reader: Reader, writer: FileWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await writer.drain()
        await writer.start_tls(tls)
        heads.append(await read_head(reader))
        writer.write(answer(b'{"number": 1}'))
        await writer.drain()

    proxy(await raw_server(tunnel))
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert await outcome("https://localhost:1") == 1
    assert heads[0].startswith(b"CONNECT localhost:1 HTTP/1.1\r\n")
    assert heads[1].startswith(b"GET /v1/account HTTP/1.1\r\n")
    assert [b"r8_secret" in head for head in heads] == [False, True]


async def test_a_dead_proxy_sent_nothing(proxy: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy(f"127.0.0.1:{unused.getsockname()[1]}")
        assert await outcome("http://api.replicate.invalid") is NotSent
        assert await outcome("https://api.replicate.invalid") is NotSent


async def test_a_proxy_that_refuses_to_connect_sent_nothing(raw_server: Any, proxy: Any) -> None:
    async def refuse(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    proxy(await raw_server(refuse))
    assert await outcome("https://api.replicate.invalid") is NotSent


@both
async def test_an_unreadable_redirect_is_the_hosts_fault_and_worth_another_try(raw_server: Any) -> None:
    async def redirects_to_nowhere(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:x/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    url = f"http://{await raw_server(redirects_to_nowhere)}/out.png"
    with pytest.raises(BrokenDownload, match="Invalid URL in location"):
        async with files() as client, open_file(client, url, hosts=("127.0.0.1",)):
            pass


class SocksProxy:
    """Speaks SOCKS 5, asks for a name and a password, and answers as the API for every host."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    async def serve(self, reader: Reader, writer: FileWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(2))[1])
        assert methods == b"\x02"
        writer.write(b"\x05\x02")
        login = await reader.readexactly(len(b"\x01\x02me\x07p@ss:1#"))
        writer.write(b"\x01\x00")
        _, _, _, kind, length = await reader.readexactly(5)
        assert kind == 3  # a name, which the proxy looks up
        self.asked.append((login, await reader.readexactly(length + 2)))
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await read_head(reader)
        writer.write(answer(b'{"number": 5}'))
        await writer.drain()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
async def test_a_socks_proxy_leads_to_the_api(raw_server: Any, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    proxy = SocksProxy()
    monkeypatch.setenv("all_proxy", f"{scheme}://me:p%40ss:1%23@{await raw_server(proxy.serve)}")
    assert await outcome("http://api.replicate.invalid") == 5
    assert proxy.asked == [(b"\x01\x02me\x07p@ss:1#", b"api.replicate.invalid\x00P")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore leaves that socket to the gc
@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\xff", b"\x05"])
async def test_what_is_no_socks_proxy_sent_nothing(
    raw_server: Any, monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    async def replies(reader: Reader, writer: FileWriter) -> None:
        await reader.read(100)
        writer.write(reply)

    monkeypatch.setenv("ALL_PROXY", f"socks5://{await raw_server(replies)}")
    assert await outcome("http://api.replicate.invalid") is NotSent
    gc.collect()


@pytest.mark.parametrize("no_proxy", ["127.0.0.0/8", "[::1], 127.0.0.1", "fe80::/10 127.0.0.1:*,127.0.0.1"])
async def test_what_needs_no_proxy_goes_past_it(
    raw_server: Any, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    async def serve(reader: Reader, writer: FileWriter) -> None:
        await read_head(reader)
        writer.write(answer(b'{"number": 3}'))

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert await outcome(f"http://{await raw_server(serve)}") == 3
