"""Servers that answer no request as they should: each handler has the bare connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as FileWriter
from collections.abc import Awaitable, Callable

Handler = Callable[[Reader, FileWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def read_request(reader: Reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return head + await reader.readexactly(length)


def reset(writer: FileWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def resets_at_once(_: Reader, writer: FileWriter) -> None:
    reset(writer)


async def resets_after_the_request(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    reset(writer)


async def closes_after_the_request(reader: Reader, _: FileWriter) -> None:
    await read_request(reader)


async def closes_in_the_body(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b'Content-Length: 100\r\n\r\n{"id": "x"')
    await writer.drain()


async def closes_in_a_chunk(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}")
    await writer.drain()


async def resets_in_the_body(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    reset(writer)


async def says_nonsense(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(b"\x16\x03\x01 what?\r\n\r\n")
    await writer.drain()


async def has_a_huge_header(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"X: " + b"x" * 200_000 + b"\r\n\r\n{}")
    await writer.drain()


async def sends_broken_gzip(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b{}")
    await writer.drain()


async def never_answers(reader: Reader, _: FileWriter) -> None:
    await read_request(reader)
    await asyncio.Event().wait()


async def trickles(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def closes_in_the_head(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD)
    await writer.drain()


async def resets_in_the_head(reader: Reader, writer: FileWriter) -> None:
    await closes_in_the_head(reader, writer)
    reset(writer)


async def says_http_wrongly(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 fine\r\nContent-Length: 2\r\n\r\n{}")
    await writer.drain()


async def gives_no_length_that_is_one(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 2x\r\n\r\n{}")
    await writer.drain()


async def gives_no_chunk_that_is_one(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n")
    await writer.drain()


async def resets_in_a_body_without_length(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b'\r\n{"id": "x"}')
    await writer.drain()
    await asyncio.sleep(0.05)
    reset(writer)


async def trickles_its_head(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD)
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def never_ceases_to_go_on(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def never_reads(_: Reader, writer: FileWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def gives_two_lengths(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
    await writer.drain()


async def goes_on_and_closes(reader: Reader, writer: FileWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    await writer.drain()


HANGS = [never_answers, never_reads, trickles, trickles_its_head, never_ceases_to_go_on]
AFTER_CONNECTING = [
    *HANGS,
    closes_in_the_head,
    resets_in_the_head,
    says_http_wrongly,
    gives_no_length_that_is_one,
    gives_no_chunk_that_is_one,
    resets_in_a_body_without_length,
    resets_at_once,
    resets_after_the_request,
    closes_after_the_request,
    closes_in_the_body,
    closes_in_a_chunk,
    resets_in_the_body,
    says_nonsense,
    has_a_huge_header,
    sends_broken_gzip,
    gives_two_lengths,
    goes_on_and_closes,
]
