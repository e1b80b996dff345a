"""A semaphore whose slots go to waiters by priority: prompts by `Work.order`, files by their expiry."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from itertools import count


class PrioritySemaphore:
    """`size` slots; of those that wait, the one with the lowest order is next."""

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
        """A context manager that holds a slot in its block; it can be entered again."""
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
            if turn.done() and not turn.cancelled():  # the slot was ours already; it goes to the next
                self.release()
            raise

    def release(self) -> None:
        """Release a slot: it goes to the first waiter."""
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
