"""Slots that go to those who wait for them in order: prompts by their turn, files by how long they are kept."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from itertools import count


class PrioritySemaphore:
    """So many may go on at once; of those that wait, the one with the lowest order is next."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(not turn.done() for _, _, turn in self._queue)

    def turn(self, order: float) -> Turn:
        """A slot to be had again and again by `async with`."""
        return Turn(self, order)

    async def acquire(self, order: float) -> None:
        """Wait for a slot."""
        if self.free:
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (order, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn already: somebody else's now
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back: it goes to the first in the queue."""
        while self._queue:
            _, _, turn = heapq.heappop(self._queue)
            if not turn.done():
                return turn.set_result(None)
        self.free += 1
        return None


@dataclass(frozen=True, slots=True)
class Turn:
    """A context manager: a slot is held in its block."""

    slots: PrioritySemaphore
    order: float

    async def __aenter__(self) -> None:
        await self.slots.acquire(self.order)

    async def __aexit__(self, *_: object) -> None:
        self.slots.release()
