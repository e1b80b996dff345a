"""What a client does while Redis is away: how long it repeats a command, and what arq must not notice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

from arq.connections import ArqRedis
from redis import exceptions
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

LOSSES = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""What a command is repeated for, a loading server included; redis-py lets out OSErrors while it connects."""
QUIET_SECONDS, WARN_EVERY_SECONDS = 1.0, 10.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Patience(Retry):
    """Repeats what a lost connection broke, until `seconds` after it was first tried.

    By time, not by count: redis-py nests a connect's repeats in a command's, which multiplies counts.
    """

    warned_at: ClassVar[float] = float("-inf")

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
        now = time.monotonic()
        if waited > QUIET_SECONDS and now - Patience.warned_at > WARN_EVERY_SECONDS:
            Patience.warned_at = now
            logger.warning("Redis does not answer for %.0f s, waiting: %s", waited, error)


class _Cancellable(AbstractConnection):
    """Sends without `asyncio.wait_for`: on Python 3.11 that swallows a cancel when the bytes are sent already.

    (https://github.com/python/cpython/issues/86296; arq's main loop then never ends on SIGTERM.)
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Send within the socket's timeout."""
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            raise exceptions.TimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = seconds


class PatientPool(BlockingConnectionPool):
    """A pool that repeats the greeting too: redis-py repeats only the bare connect before it."""

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **options: Any) -> None:
        cancellable = type(connection_class.__name__, (_Cancellable, connection_class), {})
        super().__init__(connection_class=cancellable, **options)

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect, greet and check a connection, as patiently as its commands are sent."""
        ensure = super().ensure_connection
        await connection.retry.call_with_retry(lambda: ensure(connection), lambda _: connection.disconnect())


class _LatePipeline(Pipeline):
    """Tells of a lost WATCH at EXEC, not while reading: arq expects it only there and else ends its worker."""

    watched: tuple[Any, ...] = ()
    lost = False

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "WATCH":
            self.watched = args
        while True:
            try:
                return await super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
            except exceptions.WatchError:
                self.lost = True
                await asyncio.sleep(0.05)  # a loading server answers WATCH at once, and reads not yet
                await super().immediate_execute_command(*self.watched)  # type: ignore[no-untyped-call]  # redis-py

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - redis-py's signature
        if not self.lost:
            return await super().execute(raise_on_error)
        self.lost = False
        await self.reset()  # type: ignore[no-untyped-call]  # redis-py
        raise exceptions.WatchError("the connection was lost while watching")


class PatientArqRedis(ArqRedis):
    """arq's client, for workers that outlive a restart of Redis."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002 - redis-py's signature
        """Return a pipeline whose lost WATCH shows at EXEC."""
        return _LatePipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
