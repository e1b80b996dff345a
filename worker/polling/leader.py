"""The polling leader: one worker of an API host polls for all, and the others exchange messages with it.

They send it what they wait for, and it sends them what has ended. A message can be lost with a worker or a connection,
so requests are repeated, at once to a new leader, and the leader forgets those that are not repeated.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.predictions import Prediction
from worker.leases import RELEASE_SECONDS
from worker.polling.poll_policy import Timing
from worker.polling.waiter import Waiter

MESSAGE_SECONDS = 60.0
"""How long a message stays in Redis: its receiver may be dead."""

LONGEST_MESSAGE = 256_000
"""Characters; a prediction that is longer is not sent, and its own worker fetches it."""


class PollingLeader:
    """The leader's role, as one worker (`who`) sees it."""

    def __init__(self, redis: Redis, api_host: str, who: str, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self._redis = redis
        self._api_host = api_host
        self._who = who
        self._leader: str | None = None
        self.others: dict[str, Waiter] = {}
        """What other workers wait for; empty unless this worker leads."""

        self._requested_by: dict[str, tuple[str, float]] = {}
        self._requested_at: dict[str, float] = {}

    @property
    def is_elsewhere(self) -> bool:
        """Whether another worker leads, or nobody knows yet."""
        return self._leader not in (self._who, "")

    @property
    def is_leader(self) -> bool:
        """Whether this worker leads."""
        return self._leader == self._who

    async def step_down(self) -> None:
        """Give up the role, so that another worker can lead at once."""
        self._reset({})
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._call([], willing=False)

    async def exchange(self, own: Mapping[str, Waiter], *, willing: bool) -> None:
        """Send and receive messages; become the leader if nobody is and this worker is willing."""
        await self._publish()
        leader, inbox = await self._call(self._requests(own) if self.is_elsewhere else [], willing=willing)
        if leader != self._leader:
            self._leader = leader
            self._reset(own)
        if self.is_leader:
            self._receive(inbox)
        else:
            self._apply(own, inbox)

    async def _call(self, requests: list[str], *, willing: bool) -> tuple[str, list[bytes]]:
        host = self._api_host
        names = keys.lease(f"sweeper:{host}"), keys.asked(host), keys.answered(host, self._who)
        times = int(self.timing.leader * 1000), int(MESSAGE_SECONDS * 1000)
        script = load_script(self._redis, __name__)
        leader, inbox = await script(keys=names, args=[self._who, *times, int(willing), *requests])
        return leader.decode(), inbox

    def _reset(self, own: Mapping[str, Waiter]) -> None:
        for mine in (self.others, self._requested_by, self._requested_at):
            mine.clear()
        for waiter in own.values():
            waiter.is_listed = True

    def _requests(self, own: Mapping[str, Waiter]) -> list[str]:
        """The requests that are due, new or repeated, each as `worker age id` with the age in seconds."""
        now, unix = asyncio.get_running_loop().time(), time.time()
        before = now - self.timing.request_again
        self._requested_at = {id_: at for id_, at in self._requested_at.items() if id_ in own and at > before}
        public = {id_: waiter for id_, waiter in own.items() if not waiter.is_private}
        new = [waiter for id_, waiter in public.items() if id_ not in self._requested_at]
        self._requested_at |= dict.fromkeys((waiter.prediction_id for waiter in new), now)
        return [f"{self._who} {unix - waiter.since:.3f} {waiter.prediction_id}" for waiter in new]

    def _receive(self, inbox: list[bytes]) -> None:
        """Add what the others wait for, and forget what they did not repeat."""
        now, unix = asyncio.get_running_loop().time(), time.time()
        for request in inbox:
            who, age, id_ = request.decode().split(" ")
            if who != self._who:
                self._requested_by[id_] = who, now
                if id_ not in self.others:
                    self.others[id_] = Waiter.begin(id_, unix - float(age))
        for id_ in [id_ for id_, (_, at) in self._requested_by.items() if at < now - self.timing.forget]:
            del self._requested_by[id_]
            self.others.pop(id_, None)

    async def _publish(self) -> None:
        """Send the other workers what has ended."""
        answers = defaultdict[str, list[str]](list)
        for id_ in [id_ for id_, waiter in self.others.items() if waiter.ended.done()]:
            answers[self._requested_by.pop(id_)[0]].append(_answer(self.others.pop(id_)))
        if answers:
            async with self._redis.pipeline(transaction=False) as pipe:
                for who, texts in answers.items():
                    pipe.rpush(keys.answered(self._api_host, who), *texts)
                    pipe.expire(keys.answered(self._api_host, who), int(MESSAGE_SECONDS))
                await pipe.execute()

    def _apply(self, own: Mapping[str, Waiter], inbox: list[bytes]) -> None:
        """Resolve the waiters of what has ended."""
        for text in inbox:
            answer = json.loads(text)
            if (waiter := own.get(answer["id"])) is None:
                continue
            if "raw" in answer:
                waiter.resolve(Prediction(answer["id"], answer["raw"]["status"], answer["raw"]))
            else:
                waiter.poll_soon()


def _answer(waiter: Waiter) -> str:
    """A prediction that has ended, or only its id: its own worker then decides whether it is lost or overdue."""
    answer: dict[str, Any] = {"id": waiter.prediction_id}
    if waiter.ended.exception() or not waiter.ended.result().terminal:
        return json.dumps(answer)
    text = json.dumps(answer | {"raw": dict(waiter.ended.result().raw)})
    return text if len(text) <= LONGEST_MESSAGE else json.dumps(answer)
