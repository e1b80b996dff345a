"""The connection to Redis: which server, for how long to retry, and what to say when it does not answer."""

from __future__ import annotations

import importlib.resources
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import cache
from typing import Any
from urllib.parse import quote

from arq.connections import ArqRedis, RedisSettings
from redis import exceptions
from redis.asyncio.connection import SSLConnection, parse_url
from redis.commands.core import AsyncScript

from jobs.config import Config
from jobs.errors import ConfigError, RedisUnreachable
from jobs.redis_client import embedded
from jobs.redis_client.outage import LOSSES, is_passing, reason
from jobs.redis_client.requirements import CLUSTER, RIGHTS_CURE, is_cluster_error, is_refused_right
from jobs.redis_client.resilience import PatientArqRedis, PatientPool, Redis, RetryWindow
from jobs.redis_client.server import check_has_run, without_password

PATIENT_SECONDS, IMPATIENT_SECONDS = 12 * 3600.0, 1.0
"""For how long calls are retried. A worker without a supervisor waits for a night instead of ending."""

CONNECT_SECONDS, ANSWER_SECONDS = 5, 15


def redis_url(config: Config) -> str:
    """Return REDIS_URL, else the URL of the embedded server, which is started unless it runs (RedisUnreachable)."""
    if config.redis_url:
        return config.redis_url.get_secret_value()
    return "unix://" + quote(str(embedded.ensure_running(config.redis_dir)))


def running_url(config: Config) -> str | None:
    """Return the same, None when the embedded server does not run: it is not started."""
    if config.redis_url:
        return config.redis_url.get_secret_value()
    path = embedded.find_running(config.redis_dir)
    return "unix://" + quote(str(path)) if path else None


def restart_embedded(config: Config) -> None:
    """Start the embedded server again if it died, not if it was stopped on purpose. RedisUnreachable."""
    if not config.redis_url and (config.redis_dir / embedded.PID).exists():
        embedded.ensure_running(config.redis_dir)


def connect(url: str, *, patient: bool = False) -> Redis:
    """Return a client of up to 32 connections that answers in bytes; nothing is sent yet.

    A call that fails because of a lost connection, a loading or a full server is retried for about a second, or twelve
    hours if `patient`: it may then take effect twice. ConfigError when the URL cannot be read.
    """
    redis = Redis(connection_pool=_pool(url, patient=patient))
    redis.auto_close_connection_pool = True
    return redis


def arq_redis(url: str) -> ArqRedis:
    """Return arq's client for a worker, its `redis_pool`: patient, so that the worker survives a restart of Redis.

    With arq's own client, a connection lost between WATCH and EXEC ends the worker, whatever its settings.
    """
    redis = PatientArqRedis(_pool(url, patient=True))
    redis.auto_close_connection_pool = True
    return redis


def arq_settings(url: str) -> RedisSettings:
    """Return arq's settings for the same URL, for `arq --check`: they give up after about a second."""
    options = _options(url)
    arq_names = {"path": "unix_socket_path", "db": "database"}
    names = {field.name for field in fields(RedisSettings)}
    known = {name: value for key, value in options.items() if (name := arq_names.get(key, key)) in names}
    return RedisSettings(
        **known,
        ssl=options.get("connection_class") is SSLConnection,
        conn_timeout=CONNECT_SECONDS,
        conn_retries=0,
        retry=RetryWindow(IMPATIENT_SECONDS),
        retry_on_error=list(LOSSES),
    )


@asynccontextmanager
async def opened(config: Config, *, start: bool = True) -> AsyncIterator[Redis]:
    """Yield a client of a server that answers; RedisUnreachable when it does not, also later in the block.

    Without `start`, no embedded server is started where none has ever run; NothingEnqueued.
    """
    if not start:
        check_has_run(config)
    url = redis_url(config)
    redis = connect(url)
    try:
        await _ping(redis, config, url)
        yield redis
    except exceptions.RedisError as error:
        # The server or its URL has to be fixed, not the program; a lost or refused login is a ConnectionError.
        known = is_passing(error) or is_refused_right(error) or is_cluster_error(error)
        if not known and not isinstance(error, exceptions.ConnectionError):
            raise
        raise RedisUnreachable(_explain(config, url, error)) from error
    finally:
        await redis.aclose()


async def _ping(redis: Redis, config: Config, url: str) -> None:
    """Wait for a first answer; an error, such as for a database that does not exist, is final."""
    try:
        await redis.ping()
    except exceptions.RedisError as error:
        raise RedisUnreachable(_explain(config, url, error)) from error


def load_script(redis: Redis, module: str) -> AsyncScript:
    """Return the script in the `.lua` file beside a module: "jobs.state.ledger" → jobs/state/ledger.lua."""
    return redis.register_script(_script(module))


@cache
def _script(module: str) -> str:
    package, _, name = module.rpartition(".")
    return importlib.resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _pool(url: str, *, patient: bool) -> PatientPool:
    options = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS} | _options(url)
    retry = RetryWindow(PATIENT_SECONDS if patient else IMPATIENT_SECONDS, logs=patient)
    pool = PatientPool(max_connections=32, timeout=None, retry=retry, **options)
    try:
        pool.make_connection()  # not connected yet; finds options that do not exist
    except (TypeError, exceptions.RedisError) as error:
        raise ConfigError(f"REDIS_URL has an option that does not work: {error}") from None
    return pool


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


def _explain(config: Config, url: str, error: Exception) -> str:
    cure = "Start it, correct REDIS_URL, or unset it to use the embedded server."
    if not config.redis_url:
        cure = "Run the command again: it starts the embedded server."
    if is_refused_right(error):
        cure = RIGHTS_CURE
    if is_cluster_error(error):
        cure = CLUSTER
    return f"No Redis can be used at {without_password(url)}: {reason(error).rstrip('.')}. {cure}"
