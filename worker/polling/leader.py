"""One worker of an API host sweeps the list for all: the others tell it what they wait for, and it what has ended.

Mail may be lost with a worker or a connection. So what somebody waits for is told again and again, at once to a new
sweeper, and is forgotten when nobody tells it any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.replicate_api.predictions import Prediction
from worker.leases import RELEASE_SECONDS
from worker.polling.waiter import Waiter

ROLE_SECONDS = 3.0
"""Another worker sweeps when the one that did was not heard of for so long."""

TELL_AGAIN = 5.0
FORGOTTEN = 3 * TELL_AGAIN
MAIL_SECONDS = 60.0

MOST_MAIL = 256_000
"""Characters of a prediction that is passed on; who waits for a bigger one asks for it."""


class PollingLeader:
    """The role, as one worker (`who`) sees it."""

    def __init__(self, redis: Redis, api_host: str, who: str) -> None:
        self._redis = redis
        self._realm = api_host
        self._who = who
        self._holder: str | None = None
        self.others: dict[str, Waiter] = {}
        """What other workers wait for; empty unless this one sweeps."""

        self._asked_for: dict[str, tuple[str, float]] = {}
        self._told: dict[str, float] = {}

    @property
    def elsewhere(self) -> bool:
        """Whether another worker sweeps for this one, or nobody knows yet."""
        return self._holder not in (self._who, "")

    @property
    def is_leader(self) -> bool:
        """Whether this worker sweeps."""
        return self._holder == self._who

    async def step_down(self) -> None:
        """Let another sweep at once."""
        self._begin_anew({})
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._call([], willing=False)

    async def exchange(self, own: Mapping[str, Waiter], *, willing: bool) -> None:
        """Give and take the mail; be the sweeper if nobody is and this worker is willing."""
        await self._publish()
        holder, mail = await self._call(self._asks(own) if self.elsewhere else [], willing=willing)
        if holder != self._holder:
            self._holder = holder
            self._begin_anew(own)
        if self.is_leader:
            self._receive(mail)
        else:
            self._apply(own, mail)

    async def _call(self, asks: list[str], *, willing: bool) -> tuple[str, list[bytes]]:
        names = keys.lease(f"sweeper:{self._realm}"), keys.asked(self._realm), keys.answered(self._realm, self._who)
        times = int(ROLE_SECONDS * 1000), int(MAIL_SECONDS * 1000)
        script = load_script(self._redis, __name__)
        holder, mail = await script(keys=names, args=[self._who, *times, int(willing), *asks])
        return holder.decode(), mail

    def _begin_anew(self, own: Mapping[str, Waiter]) -> None:
        for mine in (self.others, self._asked_for, self._told):
            mine.clear()
        for waiter in own.values():
            waiter.listed = True

    def _asks(self, own: Mapping[str, Waiter]) -> list[str]:
        """What is to be told, for the first time or again: worker, age in seconds, id."""
        now, unix = asyncio.get_running_loop().time(), time.time()
        self._told = {id_: at for id_, at in self._told.items() if id_ in own and at > now - TELL_AGAIN}
        new = [waiter for id_, waiter in own.items() if id_ not in self._told]
        self._told |= dict.fromkeys((waiter.prediction_id for waiter in new), now)
        return [f"{self._who} {unix - waiter.since:.3f} {waiter.prediction_id}" for waiter in new]

    def _receive(self, mail: list[bytes]) -> None:
        """Wait for what others wait for."""
        now, unix = asyncio.get_running_loop().time(), time.time()
        for ask in mail:
            who, age, id_ = ask.decode().split(" ")
            if who != self._who:
                self._asked_for[id_] = who, now
                if id_ not in self.others:
                    self.others[id_] = Waiter.begin(id_, unix - float(age))
        for id_ in [id_ for id_, (_, at) in self._asked_for.items() if at < now - FORGOTTEN]:
            del self._asked_for[id_]
            self.others.pop(id_, None)

    async def _publish(self) -> None:
        """Tell the others what has ended."""
        answers = defaultdict[str, list[str]](list)
        for id_ in [id_ for id_, waiter in self.others.items() if waiter.ended.done()]:
            answers[self._asked_for.pop(id_)[0]].append(_answer(self.others.pop(id_)))
        if answers:
            async with self._redis.pipeline(transaction=False) as pipe:
                for who, texts in answers.items():
                    pipe.rpush(keys.answered(self._realm, who), *texts)
                    pipe.expire(keys.answered(self._realm, who), int(MAIL_SECONDS))
                await pipe.execute()

    def _apply(self, own: Mapping[str, Waiter], mail: list[bytes]) -> None:
        """Wake those who wait for what has ended."""
        for text in mail:
            answer = json.loads(text)
            if (waiter := own.get(answer["id"])) is None:
                continue
            if "raw" in answer:
                waiter.end(Prediction(answer["id"], answer["raw"]["status"], answer["raw"]))
            else:
                waiter.listed, waiter.looked_at = False, 0.0


def _answer(waiter: Waiter) -> str:
    """What ended, or that its own worker has to ask for it: what is lost or overdue is for that one to judge."""
    answer: dict[str, Any] = {"id": waiter.prediction_id}
    if waiter.ended.exception() or not waiter.ended.result().terminal:
        return json.dumps(answer)
    text = json.dumps(answer | {"raw": dict(waiter.ended.result().raw)})
    return text if len(text) <= MOST_MAIL else json.dumps(answer)
