"""One worker of an API host asks for all, the leader: the others tell it what they wait for, and it what has ended.

Messages may be lost with a worker or a connection. So what somebody waits for is published again and again, at once to
a new leader, and is forgotten when nobody publishes it any more.
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
from worker.polling.poll_policy import Timing
from worker.polling.waiter import Waiter

MESSAGE_SECONDS = 60.0
"""How long a message stays in Redis: who it is for may be dead."""

LONGEST_MESSAGE = 256_000
"""Characters of a prediction that is passed on; who waits for a longer one asks for it."""


class PollingLeader:
    """The role of the leader, as one worker (`who`) sees it."""

    def __init__(self, redis: Redis, api_host: str, who: str, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self._redis = redis
        self._api_host = api_host
        self._who = who
        self._leader: str | None = None
        self.others: dict[str, Waiter] = {}
        """What other workers wait for; empty unless this one leads."""

        self._asked_for: dict[str, tuple[str, float]] = {}
        self._published: dict[str, float] = {}

    @property
    def is_elsewhere(self) -> bool:
        """Whether another worker leads, or nobody knows yet."""
        return self._leader not in (self._who, "")

    @property
    def is_leader(self) -> bool:
        """Whether this worker leads."""
        return self._leader == self._who

    async def step_down(self) -> None:
        """Let another lead at once."""
        self._forget_all({})
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._call([], willing=False)

    async def exchange(self, own: Mapping[str, Waiter], *, willing: bool) -> None:
        """Send and receive messages; become the leader if nobody is and this worker is willing."""
        await self._publish()
        leader, inbox = await self._call(self._asks(own) if self.is_elsewhere else [], willing=willing)
        if leader != self._leader:
            self._leader = leader
            self._forget_all(own)
        if self.is_leader:
            self._receive(inbox)
        else:
            self._apply(own, inbox)

    async def _call(self, asks: list[str], *, willing: bool) -> tuple[str, list[bytes]]:
        host = self._api_host
        names = keys.lease(f"sweeper:{host}"), keys.asked(host), keys.answered(host, self._who)
        times = int(self.timing.leader * 1000), int(MESSAGE_SECONDS * 1000)
        script = load_script(self._redis, __name__)
        leader, inbox = await script(keys=names, args=[self._who, *times, int(willing), *asks])
        return leader.decode(), inbox

    def _forget_all(self, own: Mapping[str, Waiter]) -> None:
        for mine in (self.others, self._asked_for, self._published):
            mine.clear()
        for waiter in own.values():
            waiter.is_listed = True

    def _asks(self, own: Mapping[str, Waiter]) -> list[str]:
        """What is to be published, for the first time or again: worker, age in seconds, id."""
        now, unix = asyncio.get_running_loop().time(), time.time()
        before = now - self.timing.publish_again
        self._published = {id_: at for id_, at in self._published.items() if id_ in own and at > before}
        new = [waiter for id_, waiter in own.items() if id_ not in self._published]
        self._published |= dict.fromkeys((waiter.prediction_id for waiter in new), now)
        return [f"{self._who} {unix - waiter.since:.3f} {waiter.prediction_id}" for waiter in new]

    def _receive(self, inbox: list[bytes]) -> None:
        """Wait for what others wait for."""
        now, unix = asyncio.get_running_loop().time(), time.time()
        for ask in inbox:
            who, age, id_ = ask.decode().split(" ")
            if who != self._who:
                self._asked_for[id_] = who, now
                if id_ not in self.others:
                    self.others[id_] = Waiter.begin(id_, unix - float(age))
        for id_ in [id_ for id_, (_, at) in self._asked_for.items() if at < now - self.timing.forget]:
            del self._asked_for[id_]
            self.others.pop(id_, None)

    async def _publish(self) -> None:
        """Tell the other workers what has ended."""
        answers = defaultdict[str, list[str]](list)
        for id_ in [id_ for id_, waiter in self.others.items() if waiter.ended.done()]:
            answers[self._asked_for.pop(id_)[0]].append(_answer(self.others.pop(id_)))
        if answers:
            async with self._redis.pipeline(transaction=False) as pipe:
                for who, texts in answers.items():
                    pipe.rpush(keys.answered(self._api_host, who), *texts)
                    pipe.expire(keys.answered(self._api_host, who), int(MESSAGE_SECONDS))
                await pipe.execute()

    def _apply(self, own: Mapping[str, Waiter], inbox: list[bytes]) -> None:
        """Wake those who wait for what has ended."""
        for text in inbox:
            answer = json.loads(text)
            if (waiter := own.get(answer["id"])) is None:
                continue
            if "raw" in answer:
                waiter.end(Prediction(answer["id"], answer["raw"]["status"], answer["raw"]))
            else:
                waiter.ask_soon()


def _answer(waiter: Waiter) -> str:
    """What ended, or that its own worker has to ask for it: what is lost or overdue is for that one to judge."""
    answer: dict[str, Any] = {"id": waiter.prediction_id}
    if waiter.ended.exception() or not waiter.ended.result().terminal:
        return json.dumps(answer)
    text = json.dumps(answer | {"raw": dict(waiter.ended.result().raw)})
    return text if len(text) <= LONGEST_MESSAGE else json.dumps(answer)
