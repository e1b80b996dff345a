from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from redis import Redis as BlockingRedis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.config import Config
from jobs.redis_client import client as connection
from jobs.redis_client import embedded
from jobs.redis_client.resilience import Redis
from tests.fork_server import CAN_FORK, ForkedProcess, ForkServer, Launch, start_python

ROOT = Path(__file__).parent.parent
TOKEN = "r8_a_token_for_tests"
# Where the environment forbids bytecode, as containers do, each of hundreds of processes would compile all it imports.
sys.dont_write_bytecode = False
# A shell's background job inherits SIGINT ignored, and so would every child that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Thousands of tests are collected, and none is garbage.
gc.disable()
# How long an example takes depends on the machine, on what else runs there, and on whether coverage is measured.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
UNPREFIXED = ("replicate_api_token", "replicate_base_url", "redis_url")


def is_setting(name: str) -> bool:
    return name.startswith(("BATCH_", "REPLICATE_")) or name == "REDIS_URL"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: a test that starts processes waits more than it works."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what lives to the end: modules, and thousands of tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the developer's settings, proxies or .env."""
    for name in [name for name in os.environ if is_setting(name) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def _redis_socket() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="rb-"))
    place = home / "s"
    options: list[str | Path] = [
        "--port",
        "0",
        "--unixsocket",
        place,
        "--dir",
        home,
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    server = subprocess.Popen(
        [embedded.binary(), *options, "--logfile", home / "log"], env={"LC_ALL": "C"}, start_new_session=True
    )
    try:
        patience = Retry(ConstantBackoff(0.01), 2000, (RedisError, OSError))
        with BlockingRedis(unix_socket_path=str(place), retry=patience) as client:
            client.ping()
        yield place
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(home)


@pytest.fixture
def redis_url(_redis_socket: Path) -> str:
    with BlockingRedis(unix_socket_path=str(_redis_socket)) as client:
        client.flushall()
        client.script_flush()
    return f"unix://{quote(str(_redis_socket))}"


@pytest.fixture(name="redis")
async def redis_client(redis_url: str) -> AsyncIterator[Redis]:
    client = connection.connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def _simulator_process() -> Iterator[Any]:
    from simulator.process import running  # noqa: PLC0415 - unit tests need no simulator

    with running() as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator_process: Any) -> Any:
    _simulator_process.reset()
    return _simulator_process


@pytest.fixture
def config(tmp_path: Path, redis_url: str, simulator: Any) -> Config:
    return Config.load(
        redis_url=redis_url,
        redis_dir=tmp_path / ".redis",
        replicate_base_url=simulator.url,
        replicate_api_token=TOKEN,
        output_dir=tmp_path / "outputs",
        output_hosts=(urlsplit(simulator.files_url).hostname,),
        schedules=tmp_path / "schedules.toml",
        notify=tmp_path / "notify.toml",
    )


def environment(config: Config) -> dict[str, str]:
    """What a child needs to see the same configuration, and nothing of the developer's."""
    prefixes = {name: "" if name in UNPREFIXED else "BATCH_" for name, value in config if value is not None}
    settings = {f"{prefix}{name.upper()}": written(getattr(config, name)) for name, prefix in prefixes.items()}
    return {
        **without_settings(),
        **settings,
        "TMPDIR": str(Path.cwd()),
    }  # what killed workers leave there goes with the test


def without_settings() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def written(value: Any) -> str:
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return ",".join(value) if isinstance(value, tuple) else str(value)


@pytest.fixture
def environment_of() -> Callable[[Config], dict[str, str]]:
    """`environment_of(config)`: what a child with another configuration needs to see."""
    return environment


@pytest.fixture
def child_env(config: Config) -> dict[str, str]:
    """The environment of a child that a test starts itself."""
    return environment(config)


@dataclass
class Child:
    """A real process whose output goes to a file; ended when its test ends."""

    process: subprocess.Popen[bytes] | ForkedProcess
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float = 60) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s; its log:\n{self.log()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.terminate()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="session")
def _fork_server() -> Iterator[ForkServer]:
    server = ForkServer(without_settings())
    yield server
    server.close()


@pytest.fixture
def launch(request: pytest.FixtureRequest) -> Launch:
    """How a test's children are started; a module where the start is what matters overrides it with start_python."""
    if not CAN_FORK:
        return start_python
    start: Launch = request.getfixturevalue("_fork_server").start
    return start


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Nursery:
    """Starts children in a test's directory; keeps them to end them."""

    def __init__(self, directory: Path, launch: Launch) -> None:
        self.directory, self.launch, self.children = directory, launch, list[Child]()

    def start(self, *command: str, env: dict[str, str], within: tuple[str, ...] = ()) -> Child:
        """Run Python with these arguments, `within` the command of another program if one is given."""
        log_file = self.directory / f"child-{len(self.children)}.log"
        with log_file.open("wb") as log, Path(os.devnull).open("rb") as nothing:
            process = self._launch(within)(command, env, self.directory, (nothing, log, log))
        self.children.append(Child(process, log_file))
        return self.children[-1]

    def run(self, *command: str, env: dict[str, str], stdin: Any = "", within: tuple[str, ...] = ()) -> Answer:
        """Run it to its end; its standard input is a text or an open file."""
        with TemporaryFile() as typed, TemporaryFile() as out, TemporaryFile() as err:
            if isinstance(stdin, str):
                typed.write(stdin.encode())
                typed.seek(0)
            streams = (typed if isinstance(stdin, str) else stdin, out, err)
            process = self._launch(within)(command, env, self.directory, streams)
            try:
                code = process.wait(120)
            finally:
                process.kill()
            return Answer(code, *(os.pread(file.fileno(), 1 << 24, 0).decode() for file in (out, err)))

    def _launch(self, within: tuple[str, ...]) -> Launch:
        return partial(start_python, within=within) if within else self.launch


@pytest.fixture
def nursery(tmp_path: Path, launch: Launch) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path, launch)
    yield nursery
    for child in nursery.children:
        child.kill()


@pytest.fixture
def worker_process(config: Config, nursery: Nursery) -> Callable[..., Child]:
    """`worker_process("--burst", max_in_flight=5)`: arq's command line and settings of this worker only."""

    def start(*arguments: str, **settings: Any) -> Child:
        env = environment(config.model_copy(update=settings))
        return nursery.start("-m", "arq", "worker.Settings", *arguments, env=env)

    return start


@pytest.fixture
def cli(config: Config, nursery: Nursery) -> Callable[..., Answer]:
    """`cli("status", "--json")` runs `python -m jobs`; settings as in worker_process, and another module by name."""

    def run(*arguments: str, stdin: str = "", module: str = "jobs", **settings: Any) -> Answer:
        env = environment(config.model_copy(update=settings))
        return nursery.run("-m", module, *arguments, env=env, stdin=stdin)

    return run


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`await eventually(condition)`: wait until a function, plain or async, returns something true; returns that."""

    async def wait(condition: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            found = condition()
            found = await found if inspect.isawaitable(found) else found
            if found:
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"did not happen within {seconds} s: {inspect.getsource(condition)}")
            await asyncio.sleep(max(0.02, 3 * (time.monotonic() - began)))  # to look must not slow down what is awaited

    return wait
