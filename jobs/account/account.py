"""What concerns a whole account: pauses, passing trouble, notices, live workers."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Self

from jobs.events.event import Event, EventKind
from jobs.events.log import record_in_all
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.wire import local_time

RECHECK_SECONDS = 180.0
"""Seconds between two checks of a pause that a worker set."""

TROUBLE_TTL = 30
"""Seconds for which reported trouble holds back creates, unless it is reported again."""


@dataclass(frozen=True, slots=True)
class ModelPause:
    """One pause, as `worker/limits/circuit_breaker.lua` keeps it; `pause`, `next` and `since` are ms."""

    model: str
    failures: int
    of: int
    refusals: int
    message: str
    pause: int
    next: int
    probe: str
    since: int

    @classmethod
    def parse(cls, model: bytes, text: bytes) -> Self:
        """Read a field of the Redis hash and its value."""
        return cls(model.decode(), **json.loads(text))

    @property
    def why(self) -> str:
        """What the model did, as a clause."""
        if self.refusals:
            what = f"{self.refusals} creates in a row were refused"
        else:
            what = f"{self.failures} of its last {self.of} predictions failed"
        return f"{what}, the last one with: {self.message}" if self.message else what

    @property
    def reason(self) -> str:
        """What `status` says: why, what happens next, and what can be done."""
        when = local_time(self.next / 1000)
        then = f"{self.probe} tries it now" if self.probe else f"one prompt tries it again at {when}"
        cure = "once it is fixed: python -m jobs resume"
        return f"model {self.model} is paused: {self.why.rstrip('.')}. {then[0].upper()}{then[1:]}; {cure}"


class Account:
    """One API host's pause, trouble and workers."""

    def __init__(self, redis: Redis, api_host: str, recheck: float = RECHECK_SECONDS) -> None:
        self._redis = redis
        self._api_host = api_host
        self._recheck = recheck

    async def pause(self, reason: str, person: str = "") -> bool:
        """Stop all creates until `resume`; the first reason stays. True when it was not paused by hand yet."""
        done = await self._change("pause", reason, "", 0)
        if done and person:
            await self._redis.hset(keys.own_pause(self._api_host), "person", person)
        return await self._changed("paused", reason, done)

    async def pause_for(self, by: str, reason: str) -> bool:
        """Stop all creates while the API answers `by` (401, 402); True when they were not paused.

        Workers check again every `recheck` seconds and lift the pause themselves.
        """
        minutes = max(round(self._recheck / 60), 1)
        text = f"{reason}; checked again every {minutes} minutes, and lifted when it is over"
        done = await self._change("pause", text, by, int(self._recheck * 1000))
        return await self._changed("paused", reason, done)

    async def is_due(self, by: str) -> bool:
        """Whether a pause of that kind is to be checked now; True for one worker only."""
        return await self._change("check", by, int(self._recheck * 1000))

    async def lift(self, by: str) -> bool:
        """Lift a pause that a worker set for that reason, and no other; True when there was one."""
        return await self._changed("resumed", "the API accepts the account again", await self._change("lift", by))

    async def paused_by(self) -> str | None:
        """`401` or `402` when a worker set the pause, else None."""
        by = await self._redis.hget(keys.own_pause(self._api_host), "by")
        return by.decode() if by else None

    async def read_pause(self) -> tuple[str | None, str | None, str | None]:
        """Why everything is paused, by which answer of the API, None: by hand, and then by whom, if that is known."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.pause(self._api_host))
            pipe.hmget(keys.own_pause(self._api_host), ["by", "person"])
            reason, (by, person) = await pipe.execute()
        reason, by, person = (value.decode() if value else None for value in (reason, by, person))
        return reason, by, person

    async def _change(self, *arguments: str | int) -> bool:
        script = load_script(self._redis, __name__)
        return bool(await script([keys.pause(self._api_host), keys.own_pause(self._api_host)], list(arguments)))

    async def resume(self) -> bool:
        """Lift the pause and clear the trouble; True when it was paused."""
        paused = await self._redis.delete(keys.pause(self._api_host))
        await self._redis.delete(keys.own_pause(self._api_host), keys.trouble(self._api_host))
        return await self._changed("resumed", "a person lifted the pause", bool(paused))

    async def pause_reason(self) -> str | None:
        """Why nothing is created until `resume`; None when it is not paused."""
        reason = await self._redis.get(keys.pause(self._api_host))
        return reason.decode() if reason else None

    async def paused_models(self) -> dict[str, str]:
        """Each model that its breaker has paused, with a sentence that says why, and what happens next."""
        found = await self._redis.hgetall(keys.paused_models(self._api_host))
        pauses = [ModelPause.parse(model, text) for model, text in sorted(found.items())]
        return {pause.model: pause.reason for pause in pauses}

    async def resume_models(self) -> bool:
        """Close all circuit breakers and forget their counts; True when one was open."""
        await self._redis.delete(keys.breaker(self._api_host))
        resumed = bool(await self._redis.delete(keys.paused_models(self._api_host)))
        return await self._changed("model_resumed", "a person lifted the pauses of models", resumed)

    async def _changed(self, event: EventKind, message: str, done: bool) -> bool:  # noqa: FBT001 - it returns it
        """Record in all batches what was done, if it was; returns whether it was."""
        if done:
            await record_in_all(self._redis, self._api_host, Event(event=event, message=message))
        return done

    async def report_trouble(self, reason: str, seconds: int = TROUBLE_TTL) -> None:
        """Hold back creates while outputs cannot be saved (a full disk, say); expires by itself."""
        await self._redis.set(keys.trouble(self._api_host), reason, ex=seconds)

    async def trouble(self) -> str | None:
        """Why outputs cannot be saved at present, as a worker last reported."""
        reason = await self._redis.get(keys.trouble(self._api_host))
        return reason.decode() if reason else None

    async def throttling(self) -> list[str]:
        """Why fewer predictions are created than the limit allows: a 429, an outage, or low credit."""
        hold, _ = await self.restraints()
        found = []
        if hold > 0:
            found.append(
                f"the API holds us back (429, or an outage): nothing is created for another {math.ceil(hold)} s"
            )
        if low_credit := await self.low_credit():
            found.append(low_credit)
        return found

    async def low_credit(self) -> str | None:
        """That Replicate slows down creates for low credit, and what can be done; None when it does not."""
        _, reduced = await self.restraints()
        if reduced <= 0:
            return None
        return (
            "the account's credit is low, so that Replicate allows six creates a minute; "
            "add credit: https://replicate.com/account/billing"
        )

    async def restraints(self) -> tuple[float, float]:
        """For how many seconds creates are held, and reduced to six a minute; not positive when they are not."""
        row = await self._redis.hmget(keys.limit(self._api_host, "create"), ["hold", "reduced"])
        seconds, micros = await self._redis.time()
        hold, reduced = (float(value or 0) / 1e6 - seconds - micros / 1e6 for value in row)
        return hold, reduced

    async def set_notice(self, reason: str, seconds: float = 0.0) -> None:
        """Let `status` show what is wrong (the API does not answer, say); holds nothing back.

        `seconds`: how long until it is known whether it is over.
        """
        await self._redis.set(keys.notice(self._api_host), reason, ex=TROUBLE_TTL + int(seconds))

    async def clear_notice(self) -> None:
        """Clear the notice: it is over."""
        await self._redis.delete(keys.notice(self._api_host))

    async def notice(self) -> str | None:
        """The current notice, if any."""
        reason = await self._redis.get(keys.notice(self._api_host))
        return reason.decode() if reason else None

    async def workers(self) -> int:
        """How many workers of the API host are up."""
        return int(await self._redis.zcount(keys.workers(self._api_host), time.time(), "+inf"))
