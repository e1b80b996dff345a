"""Servers that a case can stop and start: its own Redis server, and a gateway to the API."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import TimeoutError as RedisSilent
from redis.retry import Retry

from jobs.redis_client import embedded
from tests.ports import free_port

PATIENCE = Retry(ConstantBackoff(0.02), 1500, (RedisGone, RedisSilent, OSError))


class RedisServer:
    """A durable Valkey, in a directory and on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = Redis(port=self.port, retry=PATIENCE, retry_on_error=[RedisGone, RedisSilent])
        directory.mkdir()
        self.start()

    def start(self) -> None:
        options = {"port": self.port, "dir": self.directory, "appendonly": "yes", "appendfsync": "always", "save": ""}
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            [embedded.binary(), "--bind", "127.0.0.1", *flags, "--logfile", str(self.directory / "log")],
            env={"LC_ALL": "C"},
            start_new_session=True,
        )
        self.client.ping()

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait()


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    server = RedisServer(directory)
    try:
        yield server
    finally:
        server.client.close()
        server.end()


class Gateway:
    """Passes connections on to a server while it is open; else it refuses them, and cuts those there are."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._port = (host, int(port)), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        for each in [self._listener, *self._sockets]:
            if each:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._sockets.clear()
        time.sleep(0.05)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._sockets |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
