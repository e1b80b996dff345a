from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from jobs.replicate_api import client

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """`await raw_server(handler)` → "127.0.0.1:PORT", where the handler has the bare connection."""
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()

    async def start(handler: Handler, tls: ssl.SSLContext | None = None) -> str:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for server in servers:
        await server.wait_closed()


@pytest.fixture(params=["aiohttp", "httpx"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What holds for both: our own connections, and httpx's, which lead through proxies."""

    def httpx_transport(connections: int, tls: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)

    if request.param == "httpx":
        monkeypatch.setattr(client, "Transport", httpx_transport)
    return str(request.param)


@dataclass
class Reply:
    """One answer of the file host; `cut` resets the connection after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    length: int | None = None
    stall: bool = False

    def part(self, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        same = asked.get("if-range", self.headers.get("ETag")) == self.headers.get("ETag")
        if not (self.ranges and self.status == 200 and same and "range" in asked):
            return self.status, {}, self.body
        start = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.body):
            return 416, {}, b""
        span = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        return 206, {"Content-Range": span}, self.body[start:]


@dataclass
class FileHost:
    """Serves `replies[path]` in order, the last one for ever; keeps every request as (path, headers)."""

    address: str = ""
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    def serve(self, path: str, *replies: Reply | bytes) -> str:
        self.replies[path] = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        return f"http://{self.address}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode("latin-1").strip().split("\r\n")
            path = first.split(" ")[1]
            asked = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            self.requests.append((path, asked))
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                await asyncio.sleep(0)
                if not await self.reply(path, asked, writer):
                    return
            finally:
                self.open -= 1

    async def reply(self, path: str, asked: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        waiting = self.replies.get(path, [Reply(status=404)])
        reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        status, extra, body = reply.part(asked)
        headers = {"Content-Length": str(len(body) if reply.length is None else reply.length)} | reply.headers | extra
        if headers["Content-Length"] == "-1":
            del headers["Content-Length"]
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + (body if reply.cut is None else body[: reply.cut]))
        await writer.drain()
        if reply.stall:
            await asyncio.Event().wait()
        return reply.cut is None and "Connection" not in headers


@pytest.fixture
async def file_host(raw_server: Any) -> FileHost:
    host = FileHost()
    host.address = await raw_server(host.handle)
    return host


@pytest.fixture
def reply() -> type[Reply]:
    return Reply
