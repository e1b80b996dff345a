"""A minimal HTTP/1.1 server protocol."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

_PIECE = 1 << 18
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `head` is all of its header lines, lower-case, as received."""

    method: str
    target: str
    head: bytes
    body: bytes

    def header(self, name: bytes) -> str:
        """A header's value by lower-case name, empty when it is missing."""
        at = self.head.find(b"\r\n" + name + b":")
        if at < 0:
            return ""
        at += len(name) + 3
        return self.head[at : self.head.find(b"\r\n", at)].decode("latin-1").strip()


@dataclass(frozen=True, slots=True)
class Answer:
    """Head lines end in CRLF each; a `delay` in seconds comes before the first byte, `cut` after that many bytes."""

    body: bytes | memoryview
    status: int = 200
    head: bytes = b"content-type: application/json\r\n"
    delay: float = 0.0
    cut: int | None = None


Handler = Callable[[Request], Answer]


class HttpProtocol(asyncio.Protocol):
    """One connection: answers its requests in order."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._pending: deque[memoryview] = deque()
        self._paused = self._closing = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio leaves Nagle's algorithm on for a socket of `create_server`."""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what has arrived whole."""
        self._buffer = self._buffer + data if self._buffer else data
        while request := self._next_request():
            self._send(request, self._handler(request))

    def pause_writing(self) -> None:
        """The client is slower than we are."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with the file."""
        self._paused = False
        self._write_pending()

    def _next_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        line, _, _ = self._buffer[:end].partition(b"\r\n")
        head = self._buffer[len(line) : end + 2].lower()
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0
        stop = end + 4 + length
        if len(self._buffer) < stop:
            return None
        body, self._buffer = self._buffer[end + 4 : stop], self._buffer[stop:]
        method, target, _ = line.decode("latin-1").split(" ")
        return Request(method, target, head, body)

    def _send(self, request: Request, answer: Answer) -> None:
        if answer.delay:
            asyncio.get_running_loop().call_later(answer.delay, self._write, request, answer)
        else:
            self._write(request, answer)

    def _write(self, request: Request, answer: Answer) -> None:
        size = len(answer.body)
        head = b"HTTP/1.1 %d %s\r\n%scontent-length: %d\r\n\r\n" % (
            answer.status, _REASONS[answer.status], answer.head, size,
        )  # fmt: skip
        body = b"" if request.method == "HEAD" else answer.body
        if answer.cut is not None:
            self._closing, whole = True, head + bytes(body)
            head, body = whole[: answer.cut], b""
        if len(body) <= _PIECE:
            self._pending.append(memoryview(head + body))
        else:
            view = memoryview(body)
            self._pending.append(memoryview(head))
            self._pending.extend(view[at : at + _PIECE] for at in range(0, size, _PIECE))
        self._write_pending()

    def _write_pending(self) -> None:
        while self._pending and not self._paused:
            self._transport.write(self._pending.popleft())
        if self._closing and not self._pending:
            self._transport.close()
