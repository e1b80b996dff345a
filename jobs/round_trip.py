"""Calls of scripts that share round trips: what is called while one is under way goes with the next.

A call of its own costs redis-py some 80 µs, one of sixteen together 26; and with `appendfsync always` they share the
server's write to disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

MOST = 200
"""Calls of one round trip: nobody waits long for those before."""


@dataclass(slots=True, eq=False)
class _Call:
    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RoundTrips:
    """The round trips of one client: `alone` makes a single call, `pipeline` a pipeline without a transaction."""

    def __init__(self, alone: Callable[..., Awaitable[Any]], pipeline: Callable[[], Pipeline]) -> None:
        self._alone, self._pipeline = alone, pipeline
        self._calls: list[_Call] = []
        self._under_way: asyncio.Task[None] | None = None

    async def evalsha(self, *arguments: Any) -> Any:
        """Call a script; who is cancelled does not hear what came of it."""
        call = _Call(arguments)
        self._calls.append(call)
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._go())
        return await call.answer

    async def close(self) -> None:
        """Give up what is under way: nobody waits for it any more."""
        if self._under_way and not self._under_way.done():
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def _go(self) -> None:
        while self._calls:
            calls, self._calls = self._calls[:MOST], self._calls[MOST:]
            wanted = [call for call in calls if not call.answer.done()]
            try:
                await self._make(wanted)
            except BaseException as error:
                for call in wanted:
                    _fail(call, error)
                if not isinstance(error, Exception):
                    raise

    async def _make(self, calls: Sequence[_Call]) -> None:
        if len(calls) < 2:
            return await self._make_each(calls)
        async with self._pipeline() as pipe:
            for call in calls:
                pipe.execute_command("EVALSHA", *call.arguments)
            answers = await pipe.execute(raise_on_error=False)
        pairs = list(zip(calls, answers, strict=True))
        for call, answer in pairs:
            if not isinstance(answer, ResponseError):
                _succeed(call, answer)
        return await self._make_each([call for call, answer in pairs if isinstance(answer, ResponseError)])

    async def _make_each(self, calls: Sequence[_Call]) -> None:
        """Make calls as patiently as any command, and one's failure is its own."""
        for call in calls:
            try:
                _succeed(call, await self._alone("EVALSHA", *call.arguments))
            except (RedisError, OSError) as error:
                _fail(call, error)


def _succeed(call: _Call, answer: Any) -> None:
    if not call.answer.done():
        call.answer.set_result(answer)


def _fail(call: _Call, error: BaseException) -> None:
    if call.answer.done():
        return
    if isinstance(error, Exception):
        call.answer.set_exception(error)
    else:
        call.answer.cancel()
