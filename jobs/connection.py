"""The connection to Redis: which one, how patiently, and what to say when it does not answer."""

from __future__ import annotations

import asyncio
import importlib.resources
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urlsplit

from arq.connections import RedisSettings
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript

from jobs import embedded_redis
from jobs.config import Config
from jobs.errors import ConfigError, RedisUnreachable

PATIENT_SECONDS, IMPATIENT_SECONDS = 300.0, 1.0
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30
LOSSES = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""What a command is repeated for; redis-py lets out OSErrors while it connects."""
UNUSABLE = ("NOAUTH", "MISCONF", "Authentication required")

logger = logging.getLogger(__name__)
T = TypeVar("T")


def redis_url(config: Config) -> str:
    """Return REDIS_URL, else the URL of the embedded server, which is started unless it runs (RedisUnreachable)."""
    if config.redis_url:
        return config.redis_url.get_secret_value()
    return "unix://" + quote(str(embedded_redis.join(config.redis_dir)))


def connect(url: str, *, patient: bool = False) -> Redis:
    """Return a client of up to 32 connections that answers in bytes; nothing is sent yet.

    On a lost connection or a loading server, a command is repeated for about a second, or five minutes if `patient`:
    it may then have its effect twice. ConfigError when the URL cannot be read.
    """
    pool = _Pool(max_connections=32, timeout=None, **_options(url), **_endurance(patient=patient))
    return Redis.from_pool(pool)


def arq_settings(url: str) -> RedisSettings:
    """Return arq's settings for the same URL, as patient as `connect(patient=True)`: a worker survives a restart."""
    options = _options(url)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return RedisSettings(
        host=options.get("host", "localhost"),
        port=options.get("port", 6379),
        unix_socket_path=options.get("path"),
        database=int(options.get("db", 0)),
        username=options.get("username"),
        password=options.get("password"),
        ssl=options.get("connection_class") is SSLConnection,
        conn_timeout=CONNECT_SECONDS,
        conn_retries=0,
        retry=_Patience(PATIENT_SECONDS),
        retry_on_error=list(LOSSES),
        retry_on_timeout=True,
        **tls,
    )


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Redis]:
    """Yield a client of a server that answers; RedisUnreachable when it does not, also later in the block."""
    url = redis_url(config)
    redis = connect(url)
    try:
        await redis.ping()
        yield redis
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.NoPermissionError) as error:
        raise RedisUnreachable(_sentence(url, error)) from error
    except exceptions.ResponseError as error:
        if not str(error).startswith(UNUSABLE):
            raise
        raise RedisUnreachable(_sentence(url, error)) from error
    finally:
        await redis.aclose()


def load_script(redis: Redis, module: str) -> AsyncScript:
    """Return the script in the `.lua` file beside a module: "jobs.ledger" → jobs/ledger.lua."""
    package, _, name = module.rpartition(".")
    text = importlib.resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return redis.register_script(text)


class _Patience(Retry):
    """Repeats what a lost connection broke, until `seconds` after it was first tried.

    By time, not by count: redis-py nests a connect's repeats in a command's, which multiplies counts.
    """

    warned_at: ClassVar[float] = -60.0

    def __init__(self, seconds: float) -> None:
        super().__init__(ExponentialBackoff(cap=1.0, base=0.01), retries=-1)
        self.seconds = seconds

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], fail: Callable[[Any], Awaitable[Any]]) -> T:
        """Return what `do` returns; raise its last error when patience ends, and a refused login at once."""
        began = time.monotonic()
        failures = 0
        while True:
            try:
                return await do()
            except exceptions.AuthenticationError:
                raise
            except LOSSES as error:
                await fail(error)
                failures += 1
                pause = self._backoff.compute(failures)
                waited = time.monotonic() - began
                if waited + pause > self.seconds:
                    raise
                self._warn(waited, error)
                await asyncio.sleep(pause)

    def _warn(self, waited: float, error: Exception) -> None:
        if waited > IMPATIENT_SECONDS and time.monotonic() - _Patience.warned_at > 10:
            _Patience.warned_at = time.monotonic()
            logger.warning("waiting for Redis since %.0f s: %s", waited, error)


class _Pool(BlockingConnectionPool):
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Repeat the greeting too: redis-py repeats only the bare connect, and a dying server may cut what follows."""
        ensure = super().ensure_connection
        await connection.retry.call_with_retry(lambda: ensure(connection), lambda _: connection.disconnect())


def _endurance(*, patient: bool) -> dict[str, Any]:
    return {
        "retry": _Patience(PATIENT_SECONDS if patient else IMPATIENT_SECONDS),
        "retry_on_error": list(LOSSES),
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
    }


def _options(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        raise ConfigError(
            "REDIS_URL cannot be read. It looks like redis://user:password@host:6379/0, "
            "and a password's special characters are percent-encoded."
        ) from None
    if options.get("connection_class") is SSLConnection and options.get("ssl_cert_reqs") != "none":
        options.setdefault("ssl_check_hostname", True)
    return options


def _sentence(url: str, error: Exception) -> str:
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return (
        f"No Redis can be used at {shown}: {error}. Start it, mend REDIS_URL, or unset it to use the embedded server."
    )
