"""A poller with all it needs, and predictions for it to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from jobs.account.account import Account
from jobs.config import Config
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.client import api_client
from jobs.replicate_api.predictions import Prediction, Replicate
from worker.limits.rate_limiter import RateLimiter
from worker.limits.request_gate import RequestGate
from worker.limits.token_check import TokenCheck
from worker.polling.leader import PollingLeader
from worker.polling.poll_policy import Timing
from worker.polling.poller import Poller

IMAGE = "simulator/image"
R = TypeVar("R", bound=Replicate)


class Bench(Generic[R]):
    """A worker's poller, and the client that it asks."""

    def __init__(self, replicate: R, poller: Poller) -> None:
        self.replicate, self.poller = replicate, poller

    async def create(self, count: int, **more: Any) -> list[str]:
        """Create so many predictions; `more` is their input."""
        made = [await self.replicate.create(IMAGE, {"prompt": f"cat {n}", **more}) for n in range(count)]
        return [prediction.id for prediction in made]

    async def wait(self, ids: list[str], since: float | None = None, **options: Any) -> list[Prediction]:
        """Wait until they have ended."""
        since = time.time() if since is None else since
        return list(await asyncio.gather(*(self.poller.wait(id_, since, **options) for id_ in ids)))


@asynccontextmanager
async def open_bench(
    client: type[R], config: Config, redis: Redis, owner: str = "one", timing: Timing | None = None
) -> AsyncIterator[Bench[R]]:
    """Open what a poller needs; it does not run yet."""
    limits = {"create": 60_000.0, "read": config.reads_per_minute}
    async with RateLimiter(redis, config.api_host, limits) as limiter, api_client(config) as http:
        replicate = client(http, config)
        account = Account(redis, config.api_host)
        gate = RequestGate(limiter, account, TokenCheck(limiter, account, replicate.account, again_after=0.05))
        yield Bench(replicate, Poller(replicate, gate, config, PollingLeader(redis, config.api_host, owner, timing)))
