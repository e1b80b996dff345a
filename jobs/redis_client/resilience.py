"""What a client does while Redis is down: how long it repeats a command, and what it hides from arq."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import hiredis
from arq.connections import ArqRedis
from redis import exceptions
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as RedisPyClient
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.commands.core import AsyncScript

from jobs.redis_client.auto_pipeline import AutoPipeline
from jobs.redis_client.outage import LOSSES, OUTAGE, SHUTDOWN_DEADLINE, is_passing

REFUSED_PAUSE = 0.5
"""Seconds until a transaction that Redis refused under a WATCH fails."""

T = TypeVar("T")
Do = Callable[[], Awaitable[T]]
Fail = Callable[[Any], Awaitable[Any]]


class RetryWindow(Retry):
    """Retries passing errors (a lost connection, full memory, a failover) until `seconds` after the first try.

    By time, not by count: redis-py nests a connect's retries in a command's, which multiplies counts. One that
    `logs` writes to the log when Redis is lost and when it is back.
    """

    def __init__(self, seconds: float, *, logs: bool = False) -> None:
        super().__init__(ExponentialBackoff(cap=1.0, base=0.01), retries=-1)
        self.seconds, self.logs = seconds, logs

    async def call_with_retry(self, do: Do[T], fail: Fail) -> T:
        """Return what `do` returns; raise its last error when the window ends, or at once one that will not pass."""
        return await self.wait_out(do, fail)

    async def wait_out(self, do: Do[T], fail: Fail, *, greeting: bool = False) -> T:
        """Do the same; a `greeting` that succeeds does not show that Redis executes commands."""
        began, failures = time.monotonic(), 0
        try:
            async with SHUTDOWN_DEADLINE.limit_call():
                while True:
                    try:
                        answer = await do()
                    except (exceptions.RedisError, OSError) as error:
                        failures += 1
                        OUTAGE.waiting += failures == 1
                        await self._pause_before_retry(error, began, failures, fail)
                    else:
                        if self.logs and not greeting:
                            OUTAGE.record_answer(repeated=failures > 0)
                        return answer
        finally:
            OUTAGE.waiting -= failures > 0

    async def _pause_before_retry(self, error: Exception, began: float, failures: int, fail: Fail) -> None:
        """Pause before the next try; raise the error when there is none."""
        if not is_passing(error):
            raise error
        pause = self._backoff.compute(failures)
        if time.monotonic() - began + pause > self.seconds:
            raise error
        if self.logs and not SHUTDOWN_DEADLINE.begun:
            OUTAGE.record_failure(error, began)
        await fail(error)  # also leaves a server that became a replica, for the one that has its address now
        await asyncio.sleep(pause)


class _UnretriedConnection(AbstractConnection):
    """A connection that leaves all retries to its pool and its commands, and can be cancelled at any point."""

    async def connect(self) -> None:
        """Connect, once."""
        retry, self.retry = self.retry, Retry(NoBackoff(), 0)
        try:
            await super().connect()
        finally:
            self.retry = retry

    async def disconnect(self, nowait: bool = False) -> None:
        """Disconnect; do not fail when the server no longer answers."""
        with suppress(exceptions.TimeoutError):
            await super().disconnect(nowait)

    def pack_command(self, *args: Any) -> list[bytes]:
        """Pack by hiredis, in a twentieth of the time: redis-py's asyncio connections pack in Python."""
        name, *values = args
        try:
            return [hiredis.pack_command((*(name.encode() if isinstance(name, str) else name).split(), *values))]
        except TypeError as error:
            raise exceptions.DataError(f"Invalid input for {name!r}: {error}") from None

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send within the socket's timeout, without `asyncio.wait_for`.

        On Python 3.11 that swallows a cancel when the bytes are sent already
        (https://github.com/python/cpython/issues/86296); arq's main loop then never ends on SIGTERM.
        """
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            raise exceptions.TimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = seconds


class PatientPool(BlockingConnectionPool):
    """A pool that retries the greeting too: redis-py retries only the bare connect before it."""

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **options: Any) -> None:
        unretried = type(connection_class.__name__, (_UnretriedConnection, connection_class), {})
        # RetryWindow alone decides what is retried.
        super().__init__(connection_class=unretried, retry_on_error=[exceptions.RedisError, OSError], **options)

    async def get_connection(self, *command: Any, **options: Any) -> AbstractConnection:
        """Wait for a free connection; a waiter that is cancelled wakes the next one, which asyncio does not."""
        try:
            async with SHUTDOWN_DEADLINE.limit_call():
                connection: AbstractConnection = await super().get_connection(*command, **options)
                return connection
        except asyncio.CancelledError:
            async with self._condition:
                self._condition.notify()
            raise

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect, greet and check a connection, with the retries of a command."""
        ensure, window = super().ensure_connection, connection.retry
        assert isinstance(window, RetryWindow)  # noqa: S101 - for mypy
        await window.wait_out(lambda: ensure(connection), lambda _: connection.disconnect(), greeting=True)


class _PatientPipeline(Pipeline):
    """A pipeline whose scripts survive a restart, and which reports a lost WATCH at EXEC, where arq expects it.

    A WatchError while reading ends arq's worker.
    """

    watched: tuple[Any, ...] = ()
    watch_lost = False

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "WATCH":
            self.watched = args
        while True:
            try:
                return await super().immediate_execute_command(*args, **options)
            except exceptions.WatchError:
                self.watch_lost = True
                await asyncio.sleep(0.05)  # a loading server already answers WATCH, but no reads
                await super().immediate_execute_command(*self.watched)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        if not self.watch_lost:
            return await super().execute(raise_on_error)
        self.watch_lost = False
        await self.reset()
        raise exceptions.WatchError("the connection was lost while watching")

    async def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: Any) -> Any:
        execute = super()._execute_transaction
        try:
            return await execute(connection, commands, raise_on_error)
        except exceptions.NoScriptError:  # Redis restarted after they were loaded; all before is idempotent
            await self.load_scripts()
            return await execute(connection, commands, raise_on_error)
        except exceptions.ResponseError as error:
            if self.watching and is_passing(error):  # the WATCH has ended: redis-py raises WatchError, arq polls again
                await asyncio.sleep(REFUSED_PAUSE)
            raise

    async def reset(self) -> None:
        if self.connection and not self.connection.is_connected:
            self.watching = False
        try:
            await super().reset()
        except LOSSES:  # redis-py expects a refused UNWATCH, not one without an answer
            self.watching = False
            await super().reset()


class _Commands(RedisPyClient):
    """redis-py types a hash command for its blocking client too; this is what the commands return when awaited."""

    if TYPE_CHECKING:

        async def eval(self, script: str, numkeys: int, *keys_and_args: str) -> Any: ...
        async def hdel(self, name: str, *keys: str) -> int: ...
        async def hexists(self, name: str, key: str) -> bool: ...
        async def hget(self, name: str, key: str) -> Any: ...
        async def hgetall(self, name: str) -> dict[bytes, bytes]: ...
        async def hlen(self, name: str) -> int: ...
        async def hmget(self, name: str, keys: list[str], *args: list[str]) -> list[bytes | None]: ...
        async def hset(
            self,
            name: str,
            key: str | None = None,
            value: str | None = None,
            mapping: dict[str, Any] | None = None,
            items: list[Any] | None = None,
        ) -> int: ...
        async def hvals(self, name: str) -> list[bytes]: ...
        async def smembers(self, name: str) -> set[bytes]: ...


class Redis(_Commands):
    """A client whose transactions survive a restart of Redis, and whose script calls share round trips."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._auto_pipeline = AutoPipeline(self.execute_command, lambda: self.pipeline(transaction=False))
        self._scripts: dict[str, AsyncScript] = {}

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        """Call a script, together with others that are called at the same time."""
        return self._auto_pipeline.evalsha(sha, numkeys, *keys_and_args)

    def register_script(self, script: str) -> AsyncScript:  # type: ignore[override]  # narrower
        """Return the script, hashed once; its text is kept for a server that has lost it."""
        if (known := self._scripts.get(script)) is not None:
            return known
        registered: AsyncScript = super().register_script(script)
        self._scripts[script] = registered
        self._auto_pipeline.texts[registered.sha] = script
        return registered

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await self._auto_pipeline.close()
        await super().aclose(close_connection_pool)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline that loads its scripts again when Redis has lost them."""
        return _PatientPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class PatientArqRedis(ArqRedis):
    """arq's client, for workers that survive a restart of Redis."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline that reports a lost WATCH at EXEC."""
        pipeline = _PatientPipeline if transaction else _ServerInfoPipeline
        return pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _ServerInfoPipeline(Pipeline):
    """What arq asks the server before it starts; a user without the rights gets empty answers."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        answers = await super().execute(raise_on_error=False)
        return [{} if isinstance(answer, exceptions.NoPermissionError) else answer for answer in answers]
