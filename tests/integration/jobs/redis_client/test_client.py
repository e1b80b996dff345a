from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import arq
import pytest
from arq.connections import RedisSettings
from redis import Redis as BlockingRedis
from redis import exceptions

from jobs.config import Config
from jobs.errors import ConfigError, RedisUnreachable
from jobs.redis_client.client import arq_redis, arq_settings, connect, load_script, opened, redis_url
from jobs.redis_client.embedded import binary, ensure_running, stop
from jobs.redis_client.resilience import Redis
from tests.ports import free_port

ROOT = Path(__file__).parents[4]
LOST, FULL = "! Redis does not answer", "! Redis takes no changes"
PASSWORD = "p/ss:w@rd#1?"
WORKER = """
import arq.worker, asyncio, os
from jobs.config import Config
from jobs.redis_client.client import arq_redis, arq_settings
from types import SimpleNamespace
from worker.arq_worker import PatientWorker

arq.worker.Worker = PatientWorker

async def step(ctx, number):
    await asyncio.sleep(0.01)
    await ctx["redis"].sadd("done", number)

class Slots:
    pick_jobs = staticmethod(list)

    async def stop_reason(self, **_):
        return None

class Settings:
    ctx = {"config": Config(), "worker": SimpleNamespace(job_slots=Slots(), creates=set())}
    functions, queue_name, max_jobs, poll_delay, job_timeout, max_tries = [step], "steps", 20, 0.05, None, 10**6
    redis_settings, redis_pool = arq_settings(os.environ["URL"]), arq_redis(os.environ["URL"])
"""


class Restartable:
    """An embedded server of one test, which may be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self) -> str:
        return f"unix://{ensure_running(self.home)}"

    def kill(self) -> None:
        os.kill(int((self.home / "valkey.pid").read_text()), signal.SIGKILL)


@pytest.fixture
def server() -> Iterator[Restartable]:
    root = Path(tempfile.mkdtemp(prefix="rb-")).resolve()
    server = Restartable(root / "r")
    server.start()
    yield server
    stop(server.home)
    shutil.rmtree(root)


@pytest.fixture
def guarded_port(tmp_path: Path) -> Iterator[int]:
    """The port of a server with a password, and a user `worker` that has it too."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), "--logfile", "log"]
    with (
        subprocess.Popen([binary(), *options, "--requirepass", PASSWORD]) as process,
        BlockingRedis(port=port, password=PASSWORD) as client,
    ):
        while not answers(client):
            assert process.poll() is None
        client.acl_setuser("worker", enabled=True, passwords=f"+{PASSWORD}", commands=["+@all"], keys=["*"])
        client.acl_setuser("reader", enabled=True, nopass=True, commands=["+get"], keys=["*"])
        yield port
        process.kill()


def answers(client: BlockingRedis) -> bool:
    try:
        return bool(client.ping())
    except exceptions.ConnectionError:
        return False


@pytest.fixture
async def clients() -> AsyncIterator[Callable[..., Redis]]:
    """`connect`, whose clients are closed after the test."""
    made: list[Redis] = []

    def client(url: str, **options: Any) -> Redis:
        made.append(connect(url, **options))
        return made[-1]

    yield client
    for each in made:
        await each.aclose()


def config_of(url: str | None, **settings: Any) -> Config:
    return Config.load(redis_url=url, **settings)


async def sentence_of(url: str) -> str:
    with pytest.raises(RedisUnreachable) as error:
        async with opened(config_of(url)):
            pytest.fail("it was opened")
    assert error.value.exit_code == 3
    return str(error.value)


def test_redis_url_goes_before_the_embedded_server(tmp_path: Path) -> None:
    url = "redis://user:secret@example.invalid/3"
    assert redis_url(config_of(url, redis_dir=tmp_path / "r")) == url
    assert not (tmp_path / "r").exists()


async def test_without_redis_url_the_embedded_server_is_used(server: Restartable) -> None:
    config = config_of(None, redis_dir=server.home)
    async with opened(config) as redis:
        await redis.set("a", 1)
    async with opened(config) as redis:
        assert await redis.get("a") == b"1"


async def test_a_socket_in_an_odd_directory_is_found(server: Restartable) -> None:
    config = config_of(None, redis_dir=server.home / "50% ä?#")
    try:
        async with opened(config) as redis:
            assert await redis.ping()
        client = arq_redis(redis_url(config))
        assert await client.ping()
        await client.aclose()
    finally:
        stop(config.redis_dir)


async def test_a_hundred_commands_at_once_wait_for_32_connections(
    redis_url: str, clients: Callable[..., Redis]
) -> None:
    client = clients(redis_url)
    await asyncio.gather(*(client.incr("count") for _ in range(500)))
    assert await client.get("count") == b"500"
    assert len(await client.client_list()) <= 32


@pytest.mark.parametrize("user", ["", "worker", "default"])
async def test_a_login_and_a_database_of_the_url_hold_everywhere(guarded_port: int, user: str) -> None:
    url = f"redis://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{guarded_port}/3"
    async with opened(config_of(url)) as redis:
        await redis.set("here", 1)
    worker, checker = arq_redis(url), await arq.create_pool(arq_settings(url))
    for client in (worker, checker):
        assert await client.get("here") == b"1"
        assert (await client.client_info())["db"] == 3
        await client.aclose()


def test_tls_checks_the_hosts_name_unless_it_is_told_to_check_nothing() -> None:
    settings = arq_settings("rediss://u:p@redis.example:7000/2")
    assert (settings.ssl, settings.ssl_check_hostname, settings.ssl_cert_reqs) == (True, True, "required")
    assert (settings.host, settings.port, settings.database) == ("redis.example", 7000, 2)
    lax = arq_settings("rediss://redis.example?ssl_cert_reqs=none")
    assert (lax.ssl, lax.ssl_check_hostname, lax.ssl_cert_reqs) == (True, False, "none")
    pool = connect("rediss://redis.example").connection_pool
    assert pool.connection_kwargs["ssl_check_hostname"] is True


async def test_a_port_where_nobody_listens_is_named_with_the_cure() -> None:
    port = free_port()
    sentence = await sentence_of(f"redis://me:secret@127.0.0.1:{port}/0")
    assert f"redis://127.0.0.1:{port}/0" in sentence
    assert "unset it to use the embedded server" in sentence
    assert "secret" not in sentence


async def test_a_host_that_does_not_exist_is_named() -> None:
    sentence = await sentence_of("redis://:secret@nowhere.invalid:6379")
    assert "nowhere.invalid" in sentence
    assert "secret" not in sentence


async def test_a_plain_server_behind_a_tls_url_is_told(guarded_port: int) -> None:
    soon = "socket_connect_timeout=1"  # it waits for the rest of a greeting that is none
    sentence = await sentence_of(f"rediss://:secret@127.0.0.1:{guarded_port}?{soon}")
    assert f"rediss://127.0.0.1:{guarded_port}" in sentence


async def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    sentence = await sentence_of(f"unix://{tmp_path}/none.sock?password=secret")
    assert f"unix://{tmp_path}/none.sock:" in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize("login", ["", ":wrong-secret@", "nobody:wrong-secret@", "reader:any@"])
async def test_a_refused_login_is_told_without_the_password(guarded_port: int, login: str) -> None:
    sentence = await sentence_of(f"redis://{login}127.0.0.1:{guarded_port}")
    assert "correct REDIS_URL" in sentence or "ACL SETUSER" in sentence
    assert "wrong-secret" not in sentence


async def test_a_refused_login_is_not_tried_for_minutes(guarded_port: int, clients: Callable[..., Redis]) -> None:
    for login in ("", ":wrong@"):
        async with asyncio.timeout(60):
            with pytest.raises(exceptions.AuthenticationError):
                await clients(f"redis://{login}127.0.0.1:{guarded_port}", patient=True).ping()


@pytest.mark.parametrize("url", ["redis://:pa/sec@host", "redis://:sec#ret@host:1/0", "redis://host?db=sec"])
def test_a_url_that_cannot_be_read_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL cannot be read") as error:
        connect(url)
    assert "sec" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://night:12#34@host:6379/0", "in a password it is written %23"),
        ("redis://:secret#@host", "in a password it is written %23"),
        ("redis://host:6379/foo", "the number of a database"),
        ("redis://host:6379/0/secret", "the number of a database"),
    ],
)
def test_a_url_that_means_something_else_is_a_wrong_setting(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_URL: ") as error:
        Config.load(redis_url=url)
    assert sentence in str(error.value)
    assert not any(part in str(error.value) for part in ("12", "secret", "host:6379/foo"))


async def test_a_database_that_the_server_does_not_have_is_told(guarded_port: int) -> None:
    sentence = await sentence_of(f"redis://worker:{quote(PASSWORD, safe='')}@127.0.0.1:{guarded_port}/99")
    assert "DB index is out of range" in sentence


def test_an_option_of_the_url_that_does_not_exist_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'colour'"):
        connect("redis://127.0.0.1?colour=red")


async def use(config: Config, *commands: Callable[[Redis], Any]) -> None:
    async with opened(config) as redis:
        for command in commands:
            result = command(redis)
            if result is not None:
                await result


async def test_a_loss_inside_the_block_is_told_too(server: Restartable) -> None:
    config = config_of(server.start())
    with pytest.raises(RedisUnreachable, match=r"No Redis can be used at unix://.*correct REDIS_URL"):
        await use(config, lambda _: server.kill(), lambda redis: redis.set("a", 1))


async def test_a_loss_of_the_embedded_server_has_its_own_cure(server: Restartable) -> None:
    config = config_of(None, redis_dir=server.home)
    with pytest.raises(RedisUnreachable, match="Run the command again"):
        await use(config, lambda _: server.kill(), lambda redis: redis.set("a", 1))


async def test_a_full_server_is_told(server: Restartable) -> None:
    config = config_of(server.start())
    with pytest.raises(RedisUnreachable, match="used memory > 'maxmemory'"):
        await use(config, lambda redis: redis.config_set("maxmemory", 1), lambda redis: redis.set("a", 1))


async def test_a_mistake_of_the_program_stays_what_it_is(redis_url: str) -> None:
    with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"):
        await use(config_of(redis_url), lambda redis: redis.set("text", 1), lambda redis: redis.llen("text"))


async def test_patient_clients_wait_for_a_restart_and_say_so_once(
    server: Restartable, clients: Callable[..., Redis], caplog: pytest.LogCaptureFixture, eventually: Callable[..., Any]
) -> None:
    some, others = (clients(server.start(), patient=True) for _ in range(2))
    await some.set("a", 1)
    server.kill()
    waiting = [asyncio.ensure_future(client.get("a")) for client in (some, others) for _ in range(40)]
    await eventually(lambda: caplog.messages)
    assert not any(task.done() for task in waiting)
    server.start()
    assert await asyncio.gather(*waiting) == [b"1"] * 80
    assert [message.partition(",")[0] for message in caplog.messages] == [LOST, "Redis answers again"]


async def test_a_script_beside_its_module_survives_a_restart(
    server: Restartable, clients: Callable[..., Redis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"package_{secrets.token_hex(4)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "greet.lua").write_text("return 'héllo ' .. ARGV[1]", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    greet = load_script(clients(server.start(), patient=True), f"{package}.greet")
    assert await greet(args=["a"]) == "héllo a".encode()
    server.kill()
    server.start()
    assert await greet(args=["b"]) == "héllo b".encode()


async def test_a_loss_while_watching_shows_at_exec_and_nothing_is_written(server: Restartable) -> None:
    client = arq_redis(server.start())
    async with client.pipeline(transaction=True) as pipe:
        await pipe.watch("key")
        server.kill()
        await asyncio.to_thread(server.start)
        assert await pipe.exists("key") == 0
        assert await pipe.zscore("queue", "job") is None
        pipe.multi()
        pipe.set("key", 1)
        with pytest.raises(exceptions.WatchError):
            await pipe.execute()
    assert await client.exists("key") == 0
    await client.aclose()


async def test_a_transaction_without_a_loss_is_done(redis_url: str, redis: Redis) -> None:
    client = arq_redis(redis_url)
    async with client.pipeline(transaction=True) as pipe:
        await pipe.watch("key")
        assert await pipe.get("key") is None
        pipe.multi()
        pipe.set("key", 1)
        assert await pipe.execute() == [True]
        await pipe.watch("key")
        await redis.set("key", 2)
        pipe.multi()
        pipe.set("key", 3)
        with pytest.raises(exceptions.WatchError):
            await pipe.execute()
    assert await redis.get("key") == b"2"
    await client.aclose()


async def test_an_arq_worker_survives_kills_of_redis(
    server: Restartable, nursery: Any, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    (tmp_path / "steps.py").write_text(WORKER)
    url = server.start()
    env = {**os.environ, "URL": url, "PYTHONPATH": str(ROOT)}
    worker = nursery.start("-m", "arq", "steps.Settings", env=env)
    client = arq_redis(url)
    for turn in range(6):
        for number in range(50):
            await client.enqueue_job("step", 50 * turn + number, _queue_name="steps")
        await asyncio.sleep(0.03 * turn)
        server.kill()
        await asyncio.to_thread(server.start)

    await client.enqueue_job("step", 300, _queue_name="steps", _job_id="last")

    async def went_on() -> bool:
        assert worker.process.poll() is None, worker.log()
        return bool(await client.execute_command("SISMEMBER", "done", 300))

    async def none_is_lost() -> bool:
        try:
            waiting = {job.args[0] for job in await client.queued_jobs(queue_name="steps")}  # arq: begun, for 10 s
        except RuntimeError:  # one was done while they were being listed
            return False
        done = {int(number) for number in await client.execute_command("SMEMBERS", "done")}
        return waiting | done == set(range(301))

    try:
        await eventually(went_on)
        await eventually(none_is_lost)
    finally:
        await client.aclose()
    worker.terminate()
    assert worker.wait() == 0


def test_a_check_of_an_absent_server_ends_soon(nursery: Any, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(WORKER)
    env = {**os.environ, "URL": f"unix://{tmp_path}/none", "PYTHONPATH": str(ROOT)}
    assert nursery.start("-m", "arq", "steps.Settings", "--check", env=env).wait(60) != 0


def test_arqs_settings_take_what_they_know() -> None:
    settings = arq_settings("unix:///run/my%20redis?db=4&socket_timeout=3")
    assert isinstance(settings, RedisSettings)
    assert (settings.unix_socket_path, settings.database, settings.ssl) == ("/run/my redis", 4, False)


async def test_an_authority_of_ones_own_is_named_in_the_url(redis_url: str, clients: Callable[..., Redis]) -> None:
    """The embedded server speaks no TLS: a proxy does so for it."""
    pem = Path(__file__).parents[2] / "localhost.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_unix_connection(unquote(redis_url.removeprefix("unix://")))
        await asyncio.gather(carry(reader, inner[1]), carry(inner[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await clients(f"rediss://localhost:{port}/0?ssl_ca_certs={pem}").ping()
        with pytest.raises(exceptions.ConnectionError, match=r"(?i)certificate"):
            await clients(f"rediss://localhost:{port}/0").ping()
