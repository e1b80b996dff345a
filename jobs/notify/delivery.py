"""Delivers what is due: each delivery is claimed, tried and, if that failed, tried again later, by any worker."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from pydantic import BaseModel
from redis.exceptions import RedisError

from jobs.errors import BatchError
from jobs.notify.event import Event
from jobs.notify.receiver import Outcome, Receiver
from jobs.state.outbox import Claim, Outbox
from jobs.wire import timestamp

DELAYS = (5.0, 60.0, 300.0, 1800.0, 3600.0, 7200.0, 14_400.0, 21_600.0, 36_000.0)
"""Seconds between the tries: ten within a day."""

CLAIM_MARGIN = 30.0
"""Seconds that a claim outlasts the time of its receiver."""

SILENCED = Outcome("it answered 410 before; change its address, or `python -m jobs notify test` it", final=True)

Send = Callable[[Receiver, Event], Awaitable[Outcome]]

logger = logging.getLogger(__name__)


class Record(BaseModel):
    """How a try ended; `next` is when it is tried again, if it is."""

    receiver: str
    event: str
    title: str
    at: str
    tries: int
    delivered: bool
    error: str | None = None
    next: str | None = None


def next_delay(outcome: Outcome, tries: int, delays: tuple[float, ...] = DELAYS) -> float | None:
    """Seconds until the next try; None after the last one."""
    if outcome.is_delivered or outcome.final or tries > len(delays):
        return None
    return max(delays[tries - 1], outcome.retry_after or 0.0)


class Deliveries:
    """The deliveries that this process makes: one at a time to each receiver, so that none waits for another's."""

    def __init__(self, outbox: Outbox, send: Send, delays: tuple[float, ...] = DELAYS) -> None:
        self._outbox, self._send, self._delays = outbox, send, delays
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self.wake = asyncio.Event()
        """Set when something may be due at once."""

    async def start_due(self, receivers: Collection[Receiver]) -> None:
        """Start the oldest due delivery to each receiver that has none under way."""
        async with self._turn:
            await self._start_due(receivers)

    async def _start_due(self, receivers: Collection[Receiver]) -> None:
        if not (free := {one.name: one for one in receivers if one.name not in self._under_way}):
            return
        for delivery in await self._outbox.due(free):
            if receiver := free.pop(delivery.partition("/")[0], None):
                claim = await self._outbox.claim(delivery, receiver.timeout + CLAIM_MARGIN)
                if claim:
                    self._start(receiver, claim)

    def _start(self, receiver: Receiver, claim: Claim) -> None:
        task = asyncio.create_task(self._deliver(receiver, claim))
        self._under_way[receiver.name] = task
        task.add_done_callback(lambda _: self._forget(receiver.name))

    def _forget(self, name: str) -> None:
        self._under_way.pop(name, None)
        self.wake.set()

    async def _deliver(self, receiver: Receiver, claim: Claim) -> None:
        try:
            event = Event.model_validate_json(claim.event)
            outcome = SILENCED if await self._is_silenced(receiver) else await self._send(receiver, event)
            await self._record(receiver, claim, event, outcome)
        except (BatchError, RedisError, OSError) as error:  # its claim expires, and it is tried again
            logger.debug("%s: the delivery was not recorded: %s", receiver.name, error)
        except Exception:
            logger.exception("! %s: the delivery failed unexpectedly, will be retried", receiver.name)

    async def _is_silenced(self, receiver: Receiver) -> bool:
        """Whether it wants nothing more; one whose address has changed since does."""
        return (await self._outbox.silenced()).get(receiver.name) == receiver.mark

    async def _record(self, receiver: Receiver, claim: Claim, event: Event, outcome: Outcome) -> None:
        delay, now = next_delay(outcome, claim.tries, self._delays), time.time()
        record: dict[str, Any] = Record(
            receiver=receiver.name,
            event=event.name,
            title=event.subject,
            at=timestamp(now),
            tries=claim.tries,
            delivered=outcome.is_delivered,
            error=outcome.why or None,
            next=None if delay is None else timestamp(now + delay),
        ).model_dump()
        _log(receiver, event, outcome, delay)
        if outcome.gone:
            await self._outbox.silence(receiver.name, receiver.mark)
        if delay is None:
            await self._outbox.end(claim.delivery, record)
        else:
            await self._outbox.postpone(claim.delivery, record, delay)

    async def finish(self, receivers: Collection[Receiver], seconds: float, for_commands: float = 0.0) -> None:
        """Make what is due within so many seconds; then stop, whatever is left.

        Commands that are being run get more seconds, as a program that is killed may leave half of its work.
        """
        names = {receiver.name for receiver in receivers}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self.wake.clear()
                    await self.start_due(receivers)
                    soon = await self._seconds_until_due(names)
                    if not self._under_way and soon > seconds:
                        return
                    await _wait(self.wake, min(max(soon, 0.05), 1.0))
        except TimeoutError:
            names = {receiver.name for receiver in receivers if receiver.kind == "command"} & self._under_way.keys()
            if names and for_commands:
                logger.info("waiting for the commands of %s", ", ".join(sorted(names)))
                await asyncio.wait([self._under_way[name] for name in names], timeout=for_commands)
        finally:
            await self.stop()

    async def _seconds_until_due(self, names: Collection[str]) -> float:
        waiting = (await self._outbox.waiting()).items()
        return min((left for delivery, left in waiting if delivery.partition("/")[0] in names), default=math.inf)

    async def stop(self) -> None:
        """Cancel what is under way: its claims expire, and another process delivers it."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _log(receiver: Receiver, event: Event, outcome: Outcome, delay: float | None) -> None:
    if outcome.is_delivered:
        logger.info("✉ notified %s: %s", receiver.name, event.subject, extra={"event": "notified"})
    elif delay is None:
        logger.error(
            "! %s could not be notified, and this is not retried: %s: %s",
            receiver.name,
            event.subject,
            outcome.why,
            extra={"event": "notification_failed"},
        )
    else:
        logger.warning(
            "! %s could not be notified yet, will be retried in %.0f s: %s",
            receiver.name,
            delay,
            outcome.why,
            extra={"event": "notification_retried"},
        )
