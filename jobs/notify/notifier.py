"""A process's notifications: it posts events for the receivers of notify.toml, and delivers them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

from redis.asyncio.client import Pipeline

from jobs.config import Config, read_environment
from jobs.notify.delivery import Deliveries
from jobs.notify.event import Event
from jobs.notify.file import ReceiversFile, load
from jobs.notify.receiver import Outcome, Receiver
from jobs.notify.sender import Sender
from jobs.redis_client.resilience import Redis
from jobs.state.outbox import Outbox

LAST_SECONDS, FOR_COMMANDS = 10.0, 30.0
"""How long a worker that has done everything waits for its last deliveries, and then for commands that are run."""

logger = logging.getLogger(__name__)


class Notifier:
    """Posts and delivers; with no receiver it does nothing."""

    def __init__(self, redis: Redis, config: Config, sender: Sender) -> None:
        self._config, self._sender = config, sender
        self._outbox = Outbox(redis, config.api_host)
        self._deliveries = Deliveries(self._outbox, self._send)
        self._environment = read_environment()
        self._file = ReceiversFile(config.notify)
        self._mark: tuple[int, ...] | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, redis: Redis, config: Config) -> AsyncIterator[Self]:
        """Open it, with what notify.toml says now; what is wrong there is logged."""
        async with Sender.opened({**os.environ}) as sender:
            notifier = cls(redis, config, sender)
            await notifier.look()
            yield notifier

    @property
    def wake(self) -> asyncio.Event:
        """Set when `deliver` has something to do before its time."""
        return self._deliveries.wake

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """The receivers that can be reached."""
        return self._file.receivers

    async def look(self) -> None:
        """Read notify.toml if it has changed; a file that cannot be read changes nothing."""
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        mark = self._look_at()
        if mark == self._mark:
            return
        self._mark = mark
        found = load(self._config.notify, self._environment)
        if found.error:
            stay = "; its earlier receivers stay" if not found.is_whole and self._file.receivers else ""
            logger.error("! notifications: %s%s", found.error, stay, extra={"event": "receivers_wrong"})
        if found.is_whole:
            self._file = found
            if names := ", ".join(receiver.name for receiver in found.receivers):
                logger.info("notifications go to: %s", names, extra={"event": "receivers_read"})

    def _look_at(self) -> tuple[int, ...]:
        try:
            found = self._config.notify.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    async def post(self, event: Event) -> None:
        """Post an event for those that want it, once."""
        if names := self._names(event):
            await self._outbox.post(event.id, event.model_dump_json(), names)
            self.wake.set()

    def post_if_finished(self, event: Event, batch: str, at: float) -> Callable[[Pipeline], Awaitable[None]] | None:
        """What posts an event in the transaction that finishes a batch; None when nobody wants it."""
        if not (names := self._names(event)):
            return None
        post = partial(self._outbox.post_if_finished, event_id=event.id, event=event.model_dump_json(), receivers=names)
        return partial(post, finished=(batch, at))

    def wants(self, name: str) -> bool:
        """Whether some receiver wants events of that name."""
        return any(name in receiver.events for receiver in self.receivers)

    def _names(self, event: Event) -> list[str]:
        return [receiver.name for receiver in self.receivers if receiver.wants(event)]

    async def since(self, condition: str) -> int:
        """Since when a condition lasts that is seen now: an event of one episode is posted once."""
        return await self._outbox.begin_episode(condition)

    async def deliver(self) -> None:
        """Start the deliveries that are due; they go on beside the caller."""
        if self.receivers:
            await self._deliveries.start_due(self.receivers)

    async def stop(self) -> None:
        """Leave what is under way to others: no receiver holds up a stop."""
        await self._deliveries.stop()

    async def finish(self) -> None:
        """Deliver what is due before the process ends, within a bounded time."""
        if self.receivers:
            await self._deliveries.finish(self.receivers, LAST_SECONDS, FOR_COMMANDS)

    async def _send(self, receiver: Receiver, event: Event) -> Outcome:
        return await self._sender.send(receiver, event, self._file.variables)
