"""The circuit breaker of each model, shared by all workers of an account through Redis.

A model that mostly fails is paused; then one prompt at a time is tried, of one batch after the other, until one
succeeds. The rule is in the script. Prompts of other models notice nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any, Literal, NamedTuple

from jobs.config import Config
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.state.account import ModelPause
from worker.background import every

WINDOW = 50
"""Predictions whose ends are remembered, as in the script."""

REFRESH, SOONEST = 1.0, 0.02
"""Seconds between two looks at Redis; the shorter one when a probe may start."""

SLACK = 300.0
"""Seconds past the deadline of a prediction after which a probe that tells nothing is replaced."""

MOST_OUTCOMES = 1000
"""Told to Redis in one call."""

LONGEST_MESSAGE = 200

ModelOutcome = Literal["succeeded", "failed", "ignored"]
logger = logging.getLogger(__name__)


class MustWait(Exception):
    """A limit was reached while a create waited; nothing was sent."""


class ModelPaused(MustWait):
    """The model was paused meanwhile."""


class _Attempt(NamedTuple):
    model: str
    prompt: str
    outcome: ModelOutcome
    message: bytes


class CircuitBreaker:
    """All models' breakers as this process sees them, at most a second late; `running` keeps the view fresh."""

    def __init__(self, redis: Redis, config: Config) -> None:
        self._redis = redis
        self._script = load_script(redis, __name__)
        api_host, who = config.api_host, secrets.token_hex(8)
        self._keys = [keys.breaker(api_host), keys.paused_models(api_host), keys.breaker_report(api_host, who)]
        pause, life = int(config.breaker_pause * 1000), int((config.deadline + SLACK) * 1000)
        self._rule = [config.breaker_failures * WINDOW, pause, life]
        self._outcomes: deque[_Attempt] = deque()
        self._report: list[_Attempt] = []  # sent; kept until it is answered, under the same number
        self._number = 0
        self._pauses: dict[str, ModelPause] = {}
        self._waiting: dict[str, dict[asyncio.Future[None], str]] = {}
        self._probed: dict[tuple[str, str], int] = {}  # model and batch → when its last probe was, in turns
        self._turns = count(1)
        self._now = 0  # ms, by the clock of Redis, at the last look
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Report outcomes to Redis and read which models are paused, every second until the block ends."""
        return every(REFRESH, self._look, wake=self._wake, at_end=self._tell)

    async def admit(self, model: str, prompt: str) -> None:
        """Return when a create for the model may be tried, holding nothing meanwhile.

        While the model is paused, one prompt at a time returns as its probe: `record_outcome` must follow.
        """
        while self._bars(model, prompt):
            waiting = self._waiting.setdefault(model, {})
            if not waiting:
                self._wake.set()
            change = asyncio.get_running_loop().create_future()
            waiting[change] = prompt
            try:
                await change
            finally:
                del waiting[change]

    def check(self, model: str, prompt: str) -> None:
        """Raise ModelPaused when the model is paused and the prompt is not its probe."""
        if self._bars(model, prompt):
            raise ModelPaused(self._pauses[model].reason)

    async def record_outcome(self, model: str, prompt: str, outcome: ModelOutcome, message: str = "") -> None:
        """Say how an attempt ended (`ignored`: it tells nothing of the model), and with which error."""
        pause = self._pauses.get(model)
        if outcome == "ignored" and not pause:
            return
        line = " ".join(message.split())[:LONGEST_MESSAGE].encode("utf-8", "replace")
        self._outcomes.append(_Attempt(model, prompt, outcome, line))
        if pause.probe == prompt if pause else outcome != "succeeded":
            await self._tell()

    def forgo(self, model: str, prompt: str) -> None:
        """The prompt is stopped: if it is a probe, another one may try."""
        pause = self._pauses.get(model)
        if pause and pause.probe == prompt:
            self._outcomes.append(_Attempt(model, prompt, "ignored", b""))
            self._wake.set()

    async def has_worked(self, model: str) -> bool:
        """Whether the model had a prediction that ended, for any worker, within a week."""
        if any(attempt.model == model and attempt.outcome != "ignored" for attempt in (*self._report, *self._outcomes)):
            return True
        return bool(await self._redis.hexists(self._keys[0], model))

    def _bars(self, model: str, prompt: str) -> bool:
        pause = self._pauses.get(model)
        return pause is not None and pause.probe != prompt

    async def _look(self) -> float:
        """Exchange outcomes and pauses with Redis; returns the seconds until the next look."""
        await self._tell(look=True)
        ripe = [
            (pause.next - self._now) / 1000
            for pause in self._pauses.values()
            if self._waiting.get(pause.model) and not pause.probe
        ]
        return max(min([REFRESH, *ripe]), SOONEST)

    async def _tell(self, *, look: bool = False) -> None:
        """Report outcomes in order, one call at a time; `look` asks Redis even if there are none."""
        async with self._turn:
            while look or self._report or self._outcomes:
                await self._exchange()
                look = False

    async def _exchange(self) -> None:
        if not self._report:
            while self._outcomes and len(self._report) < MOST_OUTCOMES:
                self._report.append(self._outcomes.popleft())
            self._number += bool(self._report)
        candidates = self._candidates()
        arguments = [*self._rule, self._number, len(self._report), *_flat(self._report), *_flat(candidates.items())]
        now, events, pauses = await self._script(self._keys, arguments)
        self._report = []
        self._see(now, pauses)
        for event, model in zip(events[::2], events[1::2], strict=True):
            self._log(event.decode(), model.decode())
        self._let_go()

    def _candidates(self) -> dict[str, str]:
        """For each paused model the prompt that has waited longest, of the batch that was not tried for longest.

        A batch whose prompts all fail must not use up the probes of others.
        """
        return {model: self._next_of(model, waiting.values()) for model, waiting in self._waiting.items() if waiting}

    def _next_of(self, model: str, prompts: Iterable[str]) -> str:
        return min(prompts, key=lambda prompt: self._probed.get((model, batch_in(prompt)), 0))

    def _see(self, now: int, pauses: list[bytes]) -> None:
        found = (ModelPause.parse(*pair) for pair in zip(pauses[::2], pauses[1::2], strict=True))
        self._pauses, self._now = {pause.model: pause for pause in found}, now

    def _let_go(self) -> None:
        """Wake the prompts of models that are open again, and those that are to be probes."""
        for model, waiting in self._waiting.items():
            for change, prompt in waiting.items():
                if change.done() or self._bars(model, prompt):
                    continue
                if model in self._pauses:
                    self._probed[model, batch_in(prompt)] = next(self._turns)
                    logger.info("model %s: %s tries it", model, prompt)
                change.set_result(None)
        self._waiting = {model: waiting for model, waiting in self._waiting.items() if waiting}

    def _log(self, event: str, model: str) -> None:
        pause = self._pauses.get(model)
        if event == "reopened":
            logger.info("model %s works again", model)
        elif pause and event == "paused":
            logger.warning("! %s", pause.reason)
        elif pause:
            logger.warning("! model %s stays paused for %.0f s: %s", model, pause.pause / 1000, pause.message)


def batch_in(prompt: str) -> str:
    """The batch in a prompt's full name."""
    return prompt.partition("/")[0]


def _flat(rows: Any) -> Iterator[Any]:
    return (value for row in rows for value in row)
