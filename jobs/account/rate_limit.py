"""A rate limit of the account in Redis, where workers and producers reserve start times; the rule is in the script."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any, Literal, get_args

from redis.exceptions import RedisError

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.outage import SHUTDOWN_DEADLINE, is_passing
from jobs.redis_client.resilience import Redis

Hold = Literal["throttled", "reduced", "outage"]
HOLDS = get_args(Hold)
"""In the order of the script's numbers."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The limit's answer; in µs, by the clock of `now`. `wait` (0 = open) says when to ask again.

    `horizon` is how many start times may be held at once, `why` (with `text`) why there are none or few; a change of
    `epoch` voids earlier start times; a `leased` one must be finished or given back.
    """

    now: int
    epoch: int
    wait: int
    horizon: int
    leased: bool
    why: str
    text: str
    times: tuple[int, ...]


class RateLimit:
    """One limit in Redis, as this process sees it: `create` or `read`, of so many requests a minute."""

    def __init__(self, redis: Redis, api_host: str, name: str, limit: float) -> None:
        self._script = load_script(redis, __name__)
        self._limit = limit
        self._most_left = 0
        self._who = secrets.token_hex(8)
        self._keys = [keys.limit(api_host, name)]
        if name == "create":
            self._keys += [keys.pause(api_host), keys.trouble(api_host), keys.own_pause(api_host)]

    async def reserve(self, count: int) -> Reservation:
        """Reserve at most `count` start times; with 0, only ask whether those reserved are valid."""
        now, epoch, wait, horizon, leased, why, text, *times = await self._call("reserve", count)
        return Reservation(
            now, epoch, wait, horizon, bool(leased), why.decode(), text.decode(errors="replace"), tuple(times)
        )

    async def give_back(self) -> None:
        """Return a leased start time that was not used."""
        await self._call("finish", 0)

    async def finish_request(self) -> None:
        """Record that a request with a leased start time has ended."""
        await self._call("finish", 1)

    async def hold(self, seconds: float | None, why: Hold) -> float:
        """Start nothing for so long (None: longer each time); returns how many seconds the hold lasts."""
        lasts = await self._call("hold", -1 if seconds is None else int(seconds * 1e6), HOLDS.index(why))
        return (lasts or 0) / 1e6

    async def heed_remaining(self, remaining: int) -> None:
        """Slow down when an answer's `ratelimit-remaining` is low, as others use the limit too.

        Alone we leave at least 1 %, or half of a small bucket; with less left, each request costs more.
        """
        self._most_left = max(self._most_left, remaining)
        usual = min(int(self._limit // 100), self._most_left // 2)
        if remaining + 1 < usual:
            await self._call("slow_down", usual / (remaining + 1) - 1)

    async def _call(self, operation: str, *arguments: float) -> Any:
        """Repeat the call until Redis answers; the client logs the outage."""
        delay = 0.05
        while True:
            try:
                return await self._script(self._keys, [operation, self._who, self._limit, *arguments])
            except (RedisError, OSError) as error:
                if not is_passing(error):
                    raise
                if SHUTDOWN_DEADLINE.failed and operation != "reserve":
                    return None  # a lease that is not returned expires
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
