"""The host of output files: ranges, checksums, redirects, and everything that can break in a download."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass
from email.utils import formatdate

from starlette.types import Receive, Scope, Send

from simulator.answers import not_found
from simulator.faults import Fault
from simulator.server import close, reset
from simulator.simulation import Simulation

_PATH = re.compile(r"/(?:sim|r/(?P<hops>\d+))/(?P<id>\w+)/(?P<number>\d+)/(?P<name>[^/]*)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CACHE = 64_000_000
_CHUNK = 1 << 18
_SMALL = 1 << 14
Headers = list[tuple[bytes, bytes]]

_POLYNOMIAL = 0x82F63B78


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Drawn:
    """The bytes of a file and what its headers say about them."""

    data: bytes
    md5: bytes
    content_type: str
    modified: float

    @property
    def etag(self) -> bytes:
        """The md5 in hex, in quotes."""
        return f'"{self.md5.hex()}"'.encode()

    def headers(self) -> Headers:
        """The headers of every answer about this file."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"etag", self.etag),
            (b"last-modified", formatdate(self.modified, usegmt=True).encode()),
            (b"accept-ranges", b"bytes"),
            (b"x-goog-hash", b"md5=" + base64.b64encode(self.md5)),
        ]
        if len(self.data) <= _SMALL:
            crc = base64.b64encode(crc32c(self.data).to_bytes(4))
            headers.insert(-1, (b"x-goog-hash", b"crc32c=" + crc))
        return headers


class FileHost:
    """An ASGI app for the second origin; it needs no token, and records every token that it is sent."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._cache: OrderedDict[tuple[str, int], Drawn] = OrderedDict()
        self._cached = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET or HEAD of one file."""
        faults = self._simulation.faults
        match = _PATH.fullmatch(scope["path"])
        if match is None or scope["method"] not in ("GET", "HEAD") or faults.strike("expired_file", "output"):
            raise not_found()
        hops = int(match["hops"] or 0)
        tail = f"{match['id']}/{match['number']}/{match['name']}"
        if hops:
            await _redirect(send, f"/r/{hops - 1}/{tail}")
        elif match["hops"] is None and (fault := faults.strike("redirect", "output")):
            await _redirect(send, fault.options.get("to") or f"/r/{fault.options.get('hops', 1) - 1}/{tail}")
        else:
            drawn = await self._drawn(match["id"], int(match["number"]))
            await self._serve(Exchange(scope, receive, send), drawn)

    async def _drawn(self, prediction_id: str, number: int) -> Drawn:
        prediction = self._simulation.live(prediction_id)
        if prediction and (fault := self._simulation.faults.strike("late_file", "output")):
            late = self._simulation.clock.now() < prediction.finish + fault.seconds(5.0)
            prediction = None if late else prediction
        files = prediction.files() if prediction else []
        if prediction is None or number >= len(files):
            raise not_found()
        key = (prediction_id, number)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        file, read = files[number], self._simulation.read
        if file.md5:
            return Drawn(file.draw(read), file.md5(), file.content_type, prediction.finish)
        data = await asyncio.to_thread(file.draw, read)
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        drawn = Drawn(data, md5, file.content_type, prediction.finish)
        self._keep(key, drawn)
        return drawn

    def _keep(self, key: tuple[str, int], drawn: Drawn) -> None:
        if key not in self._cache:
            self._cached += len(drawn.data)
        self._cache[key] = drawn
        while self._cached > _CACHE and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1].data)

    async def _serve(self, exchange: Exchange, drawn: Drawn) -> None:
        headers = exchange.headers()
        start, stop, status = _part(headers, drawn)
        self._simulation.ledger.answers[str(status)] += 1
        if status == 416:
            size = f"bytes */{len(drawn.data)}".encode()
            await exchange.start(416, [(b"content-range", size), (b"content-length", b"0")])
            await exchange.body(b"")
            return
        about = drawn.headers()
        if status == 206:
            about.append((b"content-range", f"bytes {start}-{stop - 1}/{len(drawn.data)}".encode()))
        data = b"" if exchange.scope["method"] == "HEAD" else drawn.data[start:stop]
        self._simulation.ledger.bytes_served += len(data)
        for name, broken in _BROKEN.items():
            if data and (fault := self._simulation.faults.strike(name, "output")):
                await broken(exchange, status, about, data, fault)
                return
        await exchange.start(status, [*about, (b"content-length", str(stop - start).encode())])
        await exchange.body(data)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the way to answer it."""

    scope: Scope
    receive: Receive
    send: Send

    def headers(self) -> dict[bytes, bytes]:
        """The request's headers."""
        return dict(self.scope["headers"])

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool = False) -> None:
        """Send the body, in pieces."""
        for at in range(0, len(data), _CHUNK):
            await self.send({"type": "http.response.body", "body": data[at : at + _CHUNK], "more_body": True})
        if not more:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _slow(exchange: Exchange, status: int, about: Headers, data: bytes, fault: Fault) -> None:
    await exchange.start(status, [*about, _length(data)])
    pieces = min(20, len(data))
    for number in range(pieces):
        await asyncio.sleep(fault.seconds(2.0) / pieces)
        await exchange.body(data[len(data) * number // pieces : len(data) * (number + 1) // pieces], more=True)
    await exchange.body(b"")


async def _truncated(exchange: Exchange, status: int, about: Headers, data: bytes, fault: Fault) -> None:
    await exchange.start(status, [*about, _length(data)])
    await exchange.body(_cut(data, fault), more=True)
    await close(exchange.scope, exchange.receive)


async def _broken(exchange: Exchange, status: int, about: Headers, data: bytes, fault: Fault) -> None:
    await exchange.start(status, [*about, _length(data)])
    await exchange.body(_cut(data, fault), more=True)
    await asyncio.sleep(0.02)
    await reset(exchange.scope, exchange.receive)


async def _wrong_length(exchange: Exchange, status: int, about: Headers, data: bytes, fault: Fault) -> None:
    data = _cut(data, fault)
    await exchange.start(status, [*about, _length(data)])
    await exchange.body(data)


async def _wrong_bytes(exchange: Exchange, status: int, about: Headers, data: bytes, _fault: Fault) -> None:
    middle = len(data) // 2
    data = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    await exchange.start(status, [*about, _length(data)])
    await exchange.body(data)


async def _bare(exchange: Exchange, status: int, about: Headers, data: bytes, _fault: Fault) -> None:
    await exchange.start(status, [header for header in about if header[0] in (b"content-type", b"content-range")])
    await exchange.body(data)


_BROKEN = {
    "slow_body": _slow,
    "truncated_body": _truncated,
    "broken_body": _broken,
    "wrong_length": _wrong_length,
    "wrong_bytes": _wrong_bytes,
    "bare_file": _bare,
}


def _cut(data: bytes, fault: Fault) -> bytes:
    return data[: min(len(data) - 1, int(len(data) * fault.options.get("fraction", 0.5)))]


def _length(data: bytes) -> tuple[bytes, bytes]:
    return (b"content-length", str(len(data)).encode())


def _part(headers: dict[bytes, bytes], drawn: Drawn) -> tuple[int, int, int]:
    """First byte, last byte + 1 and status that Range and If-Range ask for."""
    size = len(drawn.data)
    match = _RANGE.fullmatch(headers.get(b"range", b"").decode("latin-1").strip())
    if match is None or match[0] == "bytes=-" or not _unchanged(headers.get(b"if-range"), drawn):
        return 0, size, 200
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    return (start, stop, 206) if start < stop else (0, 0, 416)


def _unchanged(condition: bytes | None, drawn: Drawn) -> bool:
    return condition in (None, drawn.etag, formatdate(drawn.modified, usegmt=True).encode())


async def _redirect(send: Send, target: str) -> None:
    headers = [(b"location", target.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
