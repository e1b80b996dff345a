from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable

from jobs.redis_client.embedded import binary
from tests.ports import free_port

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}


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


LOST, FULL, BACK = "! Redis does not answer", "! Redis takes no changes", "Redis answers again"


def told(worker: Any) -> list[str]:
    """What a worker's log says of Redis; there is no traceback in it."""
    log = worker.log()
    assert "Traceback" not in log, log
    lines = [text.partition(": ")[2] for text in log.splitlines()]
    return [text.partition(",")[0] for text in lines if text.startswith(("Redis ", "! Redis "))]


Begin = Callable[..., Awaitable[Any]]
End = Callable[[Any], Awaitable[list[str]]]


@pytest.fixture
def begun(night: Any, server: Server, worker_process: Callable[..., Any], eventually: Callable[..., Any]) -> Begin:
    """`await begun(url)`: a worker in the middle of a batch of 60, some predictions of which run for seconds."""

    async def begin(url: str, predict_max: float = 4.0, creates: int = 30) -> Any:
        night.simulator.settings(predict_min=1.0, predict_max=predict_max)
        night.images(60, redis_url=SecretStr(server.url))
        worker = worker_process(redis_url=url, **FAST)
        await eventually(lambda: night.ledger()["created"] >= creates)
        return worker

    return begin


@pytest.fixture
def ended(night: Any, eventually: Callable[..., Any]) -> End:
    """`await ended(worker)`: all is done, nothing was lost or paid twice, the worker ends well; what its log told."""

    async def end(worker: Any) -> list[str]:
        await eventually(lambda: (night.folder / "index.html").exists() or worker.process.poll() is not None, 60)
        worker.terminate()
        assert worker.wait(30) == 0, worker.log()
        assert {result["status"] for result in night.check()} == {"succeeded"}
        night.paid_once()
        return told(worker)

    return end


async def test_restarts(server: Server, begun: Begin, ended: End, eventually: Callable[..., Any]) -> None:
    worker = await begun(server.url)
    server.shut_down()
    await asyncio.sleep(1.5)  # longer than a lease holds
    server.start()
    await eventually(lambda: told(worker) == [LOST, BACK])
    server.kill()
    await eventually(lambda: told(worker) == [LOST, BACK, LOST])
    server.start()
    assert await ended(worker) == [LOST, BACK, LOST, BACK]


async def test_connections_that_are_cut_all_the_time(server: Server, begun: Begin, ended: End) -> None:
    worker = await begun(server.url)
    for _ in range(20):
        server.client.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.1)
    assert await ended(worker) in ([], [LOST, BACK])  # on a slow machine they may be cut for long enough to be told


async def test_a_line_that_swallows_everything(
    line: Line, begun: Begin, ended: End, eventually: Callable[..., Any]
) -> None:
    worker = await begun(f"redis://127.0.0.1:{line.port}?socket_timeout=1.5&socket_connect_timeout=1.5")
    line.swallow()
    await eventually(lambda: told(worker) == [LOST])
    line.flow()
    assert await ended(worker) == [LOST, BACK]


def fail_to_save(client: Any) -> None:
    client.config_set("save", "3600 1")
    client.bgsave()
    while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
        pass


TROUBLES: list[tuple[Callable[[Redis], Any], Callable[[Redis], Any]]] = [
    (lambda client: client.config_set("maxmemory", 1), lambda client: client.config_set("maxmemory", 0)),
    (lambda client: client.replicaof("127.0.0.1", 1), lambda client: client.replicaof("NO", "ONE")),
    (fail_to_save, lambda client: client.config_set("stop-writes-on-bgsave-error", "no")),
]


async def test_a_server_that_takes_no_changes(
    server: Server, begun: Begin, ended: End, eventually: Callable[..., Any]
) -> None:
    """Its memory is full, it became a replica, its disk is full: each is told and waited for."""
    worker = await begun(server.url, 6.0)
    expected: list[str] = []
    for begin, end in TROUBLES:
        begin(server.client)
        expected.append(FULL)
        await eventually(lambda: told(worker) == expected)
        end(server.client)
        expected.append(BACK)
        await eventually(lambda: told(worker) == expected)
    assert await ended(worker) == expected


@pytest.mark.parametrize("how", ["gone", "silent"])
async def test_a_stop_meanwhile(
    night: Any, server: Server, line: Line, begun: Begin, worker_process: Callable[..., Any], how: str
) -> None:
    worker = await begun(f"redis://127.0.0.1:{line.port}", creates=60)  # one that is cut short is searched for a minute
    if how == "gone":
        server.shut_down()
    else:
        line.swallow()
    await asyncio.sleep(1)
    worker.terminate()
    assert worker.wait(30) == 0
    assert told(worker) in ([LOST], [])
    line.flow()
    if how == "gone":
        server.start()
    assert worker_process("--burst", redis_url=server.url, **FAST).wait() == 0
    night.check()
    night.paid_once()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [("allkeys-lru", "maxmemory-policy is allkeys-lru"), ("volatile-ttl", "redis-cli config set maxmemory-policy")],
)
def test_a_server_that_evicts_is_refused(
    server: Server, night: Any, worker_process: Callable[..., Any], setting: str, sentence: str
) -> None:
    server.client.config_set("maxmemory-policy", setting)
    worker = worker_process(redis_url=server.url)
    assert worker.wait() == 2
    assert sentence in worker.log()
    assert "Traceback" not in worker.log()
    (night.config.output_dir.parent / "cats.txt").write_text("a cat\n")
    answer = night.cli("enqueue", "cats.txt", "--model", "simulator/image", redis_url=server.url)
    assert answer.code == 2
    assert sentence in answer.err
    assert not night.config.output_dir.exists()
    assert server.client.dbsize() == 0


def test_a_server_that_does_not_tell_is_accepted_with_a_warning(
    server: Server, worker_process: Callable[..., Any]
) -> None:
    server.client.acl_setuser("worker", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])
    worker = worker_process("--burst", redis_url=f"redis://worker:any@127.0.0.1:{server.port}")
    assert worker.wait() == 0
    assert worker.log().count("does not show its maxmemory-policy") == 1
    assert "Traceback" not in worker.log()
