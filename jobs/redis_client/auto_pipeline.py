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
from redis.exceptions import ResponseError

MOST = 200
"""Calls of one round trip: nobody waits long for those before."""

IN_TIME = 2.0
"""Seconds that a round trip may take: its connection may have gone silent, and a lease be at stake."""


class _Unmade(Exception):
    """The round trip was lost, or refused this call: who waits makes it again, alone and patiently."""


@dataclass(slots=True, eq=False)
class _Call:
    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class AutoPipeline:
    """The round trips of one client: `alone` makes a single call, `pipeline` a pipeline without a transaction."""

    def __init__(self, alone: Callable[..., Awaitable[Any]], pipeline: Callable[[], Pipeline]) -> None:
        self._alone, self._pipeline = alone, pipeline
        self._calls: list[_Call] = []
        self._under_way: asyncio.Task[None] | None = None
        self.texts: dict[str, str] = {}
        """Scripts by their SHA: a server that restarts, again and again, has forgotten them."""

    async def evalsha(self, *arguments: Any) -> Any:
        """Call a script. It may have its effect twice, and after its caller was cancelled."""
        call = _Call(arguments)
        self._calls.append(call)
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._go())
        try:
            return await call.answer
        except _Unmade:
            sha, *rest = arguments
            text = self.texts.get(sha)
            return await (self._alone("EVAL", text, *rest) if text else self._alone("EVALSHA", *arguments))

    async def close(self) -> None:
        """Give up what is under way: nobody waits for it any more."""
        if self._under_way and not self._under_way.done():
            self._under_way.cancel()
            await asyncio.wait([self._under_way])
        for call in self._calls:
            call.answer.cancel()

    async def _go(self) -> None:
        while self._calls:
            calls, self._calls = self._calls[:MOST], self._calls[MOST:]
            wanted = [call for call in calls if not call.answer.done()]
            try:
                async with asyncio.timeout(IN_TIME):
                    answers = await self._ask(wanted)
            except Exception:  # noqa: BLE001 - each call raises its own
                answers = [_Unmade()] * len(wanted)
            except asyncio.CancelledError:
                for call in wanted:
                    call.answer.cancel()
                raise
            for call, answer in zip(wanted, answers, strict=True):
                _tell(call, answer)

    async def _ask(self, calls: Sequence[_Call]) -> Sequence[Any]:
        if len(calls) == 1:
            return [await self._alone("EVALSHA", *calls[0].arguments)]
        async with self._pipeline() as pipe:
            for call in calls:
                pipe.execute_command("EVALSHA", *call.arguments)
            return await pipe.execute(raise_on_error=False)


def _tell(call: _Call, answer: Any) -> None:
    if call.answer.done():
        return
    if isinstance(answer, ResponseError | _Unmade):
        call.answer.set_exception(_Unmade())
    else:
        call.answer.set_result(answer)
