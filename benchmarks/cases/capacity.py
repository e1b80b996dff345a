"""The capacity of the stand-in server, which must not be the bottleneck."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from benchmarks.processes import RunningServer, start_server
from benchmarks.results import Rows

REQUESTS, AT_ONCE = 20_000, 50
FILES, FILE_BYTES = 500, 2 << 20


def capacity() -> Rows:
    """GETs and MB per second of its CPU: what it can do with a core of its own."""
    with start_server([f"--bytes={FILE_BYTES}"]) as server:
        return {"server, GETs": _gets(server), "server, files of 2 MiB": _files(server)}


def _gets(server: RunningServer) -> dict[str, float]:
    with _connected(server.url) as connection:
        connection.sendall(b'POST /v1/predictions HTTP/1.1\r\ncontent-length: 12\r\n\r\n{"input":{}}')
        prediction_id = connection.recv(1 << 16).partition(b'"id":"')[2][:26]
        request = b"GET /v1/predictions/%s HTTP/1.1\r\nhost: bench\r\n\r\n" % prediction_id
        connection.sendall(request)
        size = len(connection.recv(1 << 16))
        before = server.report()["cpu"]
        for _ in range(REQUESTS // AT_ONCE):
            connection.sendall(request * AT_ONCE)
            _receive(connection, size * AT_ONCE)
        return {"rate": REQUESTS / (server.report()["cpu"] - before)}


def _files(server: RunningServer) -> dict[str, float]:
    with _connected(server.files_url) as connection:
        before = server.report()["cpu"]
        for _ in range(FILES):
            connection.sendall(b"GET /sim/0/0/output.png HTTP/1.1\r\nhost: bench\r\n\r\n")
            _receive(connection, FILE_BYTES)
        return {"mb_s": FILES * FILE_BYTES / (server.report()["cpu"] - before) / 1e6}


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80))


def _receive(connection: socket.socket, size: int) -> None:
    """Read at least the given number of bytes."""
    buffer = bytearray(1 << 20)
    while size > 0 and (got := connection.recv_into(buffer)):
        size -= got
