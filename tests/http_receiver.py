"""A receiver of webhooks in the test's own event loop: gives the answers that a test wants, and keeps what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """`answers` are sent one after the other, then 200; None: no answer at all."""

    url: str = ""
    answers: list[str | None] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def running(cls, *answers: str | None) -> AsyncIterator[Self]:
        receiver = cls(answers=list(answers))
        tasks = set[asyncio.Task[None]]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await receiver._answer(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield receiver
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.received.append(Received(first.split()[1], headers, body))
        answer = self.answers.pop(0) if self.answers else "200 OK\r\n"
        if answer is None:
            await asyncio.Event().wait()
        head, _, content = str(answer).partition("\r\n\r\n")
        writer.write(f"HTTP/1.1 {head.strip()}\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode())
        await writer.drain()
