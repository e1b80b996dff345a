from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable

from jobs.embedded_redis import binary

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """A Redis of one test's own, which keeps every write and may go and come back."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.client = Redis(port=self.port)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        wanted = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.home), "logfile": "log", "save": ""}
        wanted |= {"appendonly": "yes", "appendfsync": "always", "dbfilename": "no-file"}
        words = [part for name, value in wanted.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen([binary(), *words], cwd=self.home)
        while not self.answers():
            assert self.process.poll() is None

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except Unreachable:
            return False

    def shut_down(self) -> None:
        self.client.shutdown()
        assert self.process
        self.process.wait()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "server"
    (home / "no-file").mkdir(parents=True)  # so that saving a snapshot fails
    server = Server(home)
    server.start()
    yield server
    server.kill()
    server.client.close()


class Line:
    """A way to a server on which packets get lost: a TCP proxy that can swallow all, or refuse to connect."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)

    def swallow(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def cut(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._flowing.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            ways = [self._carry(reader, back), self._carry(there, writer)]
            try:
                await asyncio.gather(*ways)
            finally:
                back.transport.abort()
        writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@pytest.fixture
async def line(server: Server) -> AsyncIterator[Line]:
    line = Line(server.port)
    await line.open()
    yield line
    await line.cut()


def told(worker: Any) -> list[str]:
    """What a worker's log says of Redis, which must be all there is: no traceback, no other line of trouble."""
    log = worker.log()
    assert "Traceback" not in log, log
    lines = [text.partition(": ")[2] for text in log.splitlines() if "Redis" in text]
    return [text.partition(",")[0] for text in lines]


LOST, BACK = "! Redis does not answer", "Redis answers again"
FULL = "! Redis takes no changes"


@pytest.fixture
async def begun(
    night: Any, server: Server, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> Callable[..., Any]:
    """`await begun(url)`: a worker in the middle of a batch of 60, some predictions of which run for seconds."""

    async def begin(url: str) -> Any:
        night.simulator.settings(predict_min=0.5, predict_max=3.0)
        night.images(60, redis_url=server.url)
        worker = worker_process(redis_url=url, **FAST)
        await eventually(lambda: night.ledger()["created"] >= 30)
        return worker

    return begin


@pytest.fixture
async def ended(night: Any, eventually: Callable[..., Any]) -> Callable[..., Any]:
    """`await ended(worker)`: the batch is done, nothing was lost or paid twice, and the worker ends at a signal."""

    async def end(worker: Any) -> list[str]:
        await eventually(lambda: (night.folder / "index.html").exists() or worker.process.poll() is not None)
        worker.terminate()
        assert worker.wait(20) == 0, worker.log()
        assert {result["status"] for result in night.check()} == {"succeeded"}
        night.paid_once()
        return told(worker)

    return end


async def test_restarts(server: Server, begun: Any, ended: Any) -> None:
    worker = await begun(server.url)
    server.shut_down()
    await asyncio.sleep(2)  # longer than the leases hold
    server.start()
    await asyncio.sleep(0.5)
    server.kill()
    await asyncio.sleep(0.5)
    server.start()
    assert await ended(worker) == [LOST, BACK, LOST, BACK]


async def test_connections_that_are_cut_all_the_time(server: Server, begun: Any, ended: Any) -> None:
    worker = await begun(server.url)
    for _ in range(100):
        server.client.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.02)
    assert await ended(worker) == []


async def test_a_line_that_swallows_everything(line: Line, begun: Any, ended: Any) -> None:
    worker = await begun(f"redis://127.0.0.1:{line.port}?socket_timeout=0.5&socket_connect_timeout=0.5")
    line.swallow()
    await asyncio.sleep(3)
    line.flow()
    assert await ended(worker) == [LOST, BACK]


@pytest.mark.parametrize("trouble", ["memory", "disk", "replica"])
async def test_a_server_that_takes_no_changes(server: Server, begun: Any, ended: Any, trouble: str) -> None:
    begin, end = TROUBLES[trouble]
    worker = await begun(server.url)
    begin(server.client)
    await asyncio.sleep(2)
    end(server.client)
    assert await ended(worker) == [FULL, BACK]


def fail_to_save(client: Redis) -> None:
    client.config_set("save", "3600 1")
    client.bgsave()
    while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
        pass


TROUBLES: dict[str, tuple[Callable[[Redis], Any], Callable[[Redis], Any]]] = {
    "memory": (lambda client: client.config_set("maxmemory", 1), lambda client: client.config_set("maxmemory", 0)),
    "disk": (fail_to_save, lambda client: client.config_set("stop-writes-on-bgsave-error", "no")),
    "replica": (lambda client: client.replicaof("127.0.0.1", 1), lambda client: client.replicaof("NO", "ONE")),
}


@pytest.mark.parametrize("how", ["gone", "silent", "full"])
async def test_a_stop_meanwhile(
    night: Any, server: Server, line: Line, begun: Any, worker_process: Callable[..., Any], how: str
) -> None:
    worker = await begun(f"redis://127.0.0.1:{line.port}")
    if how == "gone":
        server.shut_down()
    elif how == "silent":
        line.swallow()
    else:
        server.client.config_set("maxmemory", 1)
    await asyncio.sleep(1.5)
    worker.terminate()
    assert worker.wait(15) == 0
    assert told(worker) in ([LOST], [FULL], [])
    line.flow()
    if how == "gone":
        server.start()
    server.client.config_set("maxmemory", 0)
    assert worker_process("--burst", redis_url=server.url, **FAST).wait() == 0
    night.check()
    night.paid_once()
