from __future__ import annotations

import asyncio
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
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from pydantic import SecretStr
from redis import Redis as BlockingRedis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.config import Config
from jobs.redis_client import client as connection
from jobs.redis_client import embedded
from jobs.redis_client.resilience import Redis

ROOT = Path(__file__).parent.parent
TOKEN = "r8_a_token_for_tests"
# A shell's background job inherits SIGINT ignored, and so would every child that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
UNPREFIXED = ("replicate_api_token", "replicate_base_url", "redis_url")


def is_setting(name: str) -> bool:
    return name.startswith(("BATCH_", "REPLICATE_")) or name == "REDIS_URL"


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
    )


def environment(config: Config) -> dict[str, str]:
    """What a child needs to see the same configuration, and nothing of the developer's."""
    kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
    prefixes = {name: "" if name in UNPREFIXED else "BATCH_" for name, value in config if value is not None}
    settings = {f"{prefix}{name.upper()}": written(getattr(config, name)) for name, prefix in prefixes.items()}
    fixed = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return {
        **kept,
        **settings,
        **fixed,
        "TMPDIR": str(Path.cwd()),
    }  # what killed workers leave there goes with the test


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

    process: subprocess.Popen[bytes]
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


class Nursery:
    """Starts children in a test's directory; keeps them to end them."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.children = directory, list[Child]()

    def start(self, *command: str, env: dict[str, str], within: tuple[str, ...] = ()) -> Child:
        """Run Python with these arguments, `within` the command of another program if one is given."""
        log_file = self.directory / f"child-{len(self.children)}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [*within, sys.executable, *command],
                cwd=self.directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.children.append(Child(process, log_file))
        return self.children[-1]


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
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


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(config: Config, tmp_path: Path) -> Callable[..., Answer]:
    """`cli("status", "--json")` runs `python -m jobs`; settings as in worker_process, and another module by name."""

    def run(*arguments: str, stdin: str = "", module: str = "jobs", **settings: Any) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            env=environment(config.model_copy(update=settings)),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`await eventually(condition)`: wait until a function, plain or async, returns something true; returns that."""

    async def wait(condition: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            found = await found if inspect.isawaitable(found) else found
            if found:
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"did not happen within {seconds} s: {inspect.getsource(condition)}")
            await asyncio.sleep(0.02)

    return wait
