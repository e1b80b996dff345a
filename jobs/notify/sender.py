"""Sends one event to one receiver, whatever kind it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Self

import httpx

from jobs.notify.command import run_command
from jobs.notify.event import Event
from jobs.notify.receiver import Outcome, Receiver
from jobs.notify.services import send_by_apprise
from jobs.notify.webhook import post_webhook
from jobs.replicate_api.client import CONNECT_SECONDS, make_client

OWN_SECRETS = ("REPLICATE_API_TOKEN", "BATCH_DASHBOARD_TOKEN")
"""Variables that no program of the user gets."""

CONNECTIONS = 16
PROCESS_END = 5.0
"""Seconds beyond a receiver's own time in which its program is killed."""

logger = logging.getLogger(__name__)


class Sender:
    """Sends events; a failure is an outcome, not an error. `environment` is what programs get, without secrets."""

    def __init__(self, client: httpx.AsyncClient, environment: Mapping[str, str]) -> None:
        self._client, self._environment = client, environment

    @classmethod
    @asynccontextmanager
    async def opened(cls, environment: Mapping[str, str]) -> AsyncIterator[Self]:
        """A sender that goes where the environment leads: its proxies, its certificates. ConfigError."""
        limit = httpx.Timeout(CONNECT_SECONDS)
        async with make_client(CONNECTIONS, {"Accept": "*/*"}, limit) as client:
            yield cls(client, environment)

    async def send(self, receiver: Receiver, event: Event, hidden: Collection[str] = ()) -> Outcome:
        """Send it once, within the receiver's time; `hidden` variables are kept from its program."""
        try:
            async with asyncio.timeout(receiver.timeout + (0 if receiver.kind == "webhook" else PROCESS_END)):
                return await self._send(receiver, event, hidden)
        except TimeoutError:
            return Outcome(f"no answer within {receiver.timeout:g} s")
        except Exception as error:
            logger.exception("! the notification of %s failed unexpectedly", receiver.name)
            return Outcome(f"unexpected: {type(error).__name__}")

    async def _send(self, receiver: Receiver, event: Event, hidden: Collection[str]) -> Outcome:
        if receiver.kind == "webhook":
            return await post_webhook(self._client, receiver, event)
        environment = {
            name: value for name, value in self._environment.items() if name not in hidden and name not in OWN_SECRETS
        }
        if receiver.kind == "command":
            return await run_command(receiver, event, environment)
        return await send_by_apprise(receiver, event, environment)
