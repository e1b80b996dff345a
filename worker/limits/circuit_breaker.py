"""The circuit breaker of each model, shared by all workers of an account through Redis.

A model that mostly fails is paused; then one prompt at a time is sent as a probe, batches taking turns, until one
succeeds. Other models are not affected. The rule is in the script.
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

from jobs.account.account import ModelPause
from jobs.config import Config
from jobs.events.event import Event
from jobs.events.log import record_in_all
from jobs.message_groups import message_group
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from worker.background import every

WINDOW = 50
"""How many outcomes of a model are kept, as in the script."""

REFRESH, SOONEST = 1.0, 0.02
"""Seconds between two calls to Redis; the shorter one when a probe may start."""

SLACK = 300.0
"""Seconds past the deadline of a prediction after which a probe without an outcome is replaced."""

MOST_OUTCOMES = 1000
"""Reported to Redis in one call."""

LONGEST_MESSAGE = 200

ModelOutcome = Literal["succeeded", "failed", "ignored"]
logger = logging.getLogger(__name__)


class MustWait(Exception):
    """A limit was reached while a create waited; nothing was sent."""


class ModelPaused(MustWait):
    """The model was paused while a create waited."""


class _Attempt(NamedTuple):
    model: str
    prompt: str
    outcome: ModelOutcome
    message: bytes


class CircuitBreaker:
    """The breakers of all models as this process sees them, up to a second late; `running` refreshes the view."""

    def __init__(self, redis: Redis, config: Config) -> None:
        self._redis = redis
        self._script = load_script(redis, __name__)
        self._api_host = api_host = config.api_host
        who = secrets.token_hex(8)
        self._keys = [keys.breaker(api_host), keys.paused_models(api_host), keys.breaker_report(api_host, who)]
        pause, life = int(config.breaker_pause * 1000), int((config.deadline + SLACK) * 1000)
        self._rule = [config.breaker_failures * WINDOW, pause, life]
        self._outcomes: deque[_Attempt] = deque()
        self._report: list[_Attempt] = []  # sent under `_number`, and sent again until it is acknowledged
        self._number = 0
        self._pauses: dict[str, ModelPause] = {}
        self._waiting: dict[str, dict[asyncio.Future[None], str]] = {}
        self._probed: dict[tuple[str, str], int] = {}  # model and batch → number of its last probe
        self._probe_numbers = count(1)
        self._now = 0  # ms by the clock of Redis, at the last call
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Report outcomes to Redis and read which models are paused, every second until the block ends."""
        return every(REFRESH, self._refresh, wake=self._wake, at_end=self._report_outcomes)

    async def admit(self, model: str, prompt: str) -> None:
        """Wait until the prompt may create a prediction of the model.

        While the model is paused, one prompt at a time is admitted as its probe: `record_outcome` must follow.
        """
        while self._is_barred(model, prompt):
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
        if self._is_barred(model, prompt):
            raise ModelPaused(self._pauses[model].reason)

    async def record_outcome(self, model: str, prompt: str, outcome: ModelOutcome, message: str = "") -> None:
        """Record how an attempt ended (`ignored`: it says nothing about the model), and with which error."""
        pause = self._pauses.get(model)
        if outcome == "ignored" and not pause:
            return
        line = " ".join(message.split())[:LONGEST_MESSAGE].encode("utf-8", "replace")
        self._outcomes.append(_Attempt(model, prompt, outcome, line))
        if pause.probe == prompt if pause else outcome != "succeeded":
            await self._report_outcomes()

    def give_up_probe(self, model: str, prompt: str) -> None:
        """The prompt stops: if it is the probe, another prompt may be."""
        pause = self._pauses.get(model)
        if pause and pause.probe == prompt:
            self._outcomes.append(_Attempt(model, prompt, "ignored", b""))
            self._wake.set()

    async def has_worked(self, model: str) -> bool:
        """Whether any worker had a prediction of the model end within a week."""
        if any(attempt.model == model and attempt.outcome != "ignored" for attempt in (*self._report, *self._outcomes)):
            return True
        return bool(await self._redis.hexists(self._keys[0], model))

    def _is_barred(self, model: str, prompt: str) -> bool:
        pause = self._pauses.get(model)
        return pause is not None and pause.probe != prompt

    async def _refresh(self) -> float:
        """Exchange outcomes and pauses with Redis; returns the seconds until the next time."""
        await self._report_outcomes(refresh=True)
        ripe = [
            (pause.next - self._now) / 1000
            for pause in self._pauses.values()
            if self._waiting.get(pause.model) and not pause.probe
        ]
        return max(min([REFRESH, *ripe]), SOONEST)

    async def _report_outcomes(self, *, refresh: bool = False) -> None:
        """Report outcomes in order, one call at a time; `refresh` calls Redis even if there are none."""
        async with self._lock:
            while refresh or self._report or self._outcomes:
                await self._exchange()
                refresh = False

    async def _exchange(self) -> None:
        if not self._report:
            while self._outcomes and len(self._report) < MOST_OUTCOMES:
                self._report.append(self._outcomes.popleft())
            self._number += bool(self._report)
        candidates = self._candidates()
        arguments = [*self._rule, self._number, len(self._report), *_flat(self._report), *_flat(candidates.items())]
        now, events, pauses = await self._script(self._keys, arguments)
        self._report = []
        self._update_pauses(now, pauses)
        for event, model in zip(events[::2], events[1::2], strict=True):
            await self._log(event.decode(), model.decode())
        self._wake_waiters()

    def _candidates(self) -> dict[str, str]:
        """The next probe of each model: the prompt that waited longest, of the batch that was not probed for longest.

        A batch whose prompts all fail must not use up the probes of others.
        """
        return {
            model: self._choose_probe(model, waiting.values()) for model, waiting in self._waiting.items() if waiting
        }

    def _choose_probe(self, model: str, prompts: Iterable[str]) -> str:
        return min(prompts, key=lambda prompt: self._probed.get((model, batch_in(prompt)), 0))

    def _update_pauses(self, now: int, pauses: list[bytes]) -> None:
        found = (ModelPause.parse(*pair) for pair in zip(pauses[::2], pauses[1::2], strict=True))
        self._pauses, self._now = {pause.model: pause for pause in found}, now

    def _wake_waiters(self) -> None:
        """Wake the prompts of models that are open again, and those that are probes now."""
        for model, waiting in self._waiting.items():
            for change, prompt in waiting.items():
                if change.done() or self._is_barred(model, prompt):
                    continue
                if model in self._pauses:
                    self._probed[model, batch_in(prompt)] = next(self._probe_numbers)
                    logger.info("model %s: %s is sent as a probe", model, prompt)
                change.set_result(None)
        self._waiting = {model: waiting for model, waiting in self._waiting.items() if waiting}

    async def _log(self, event: str, model: str) -> None:
        pause = self._pauses.get(model)
        if event == "reopened":
            logger.info("model %s works again", model, extra={"event": "model_resumed", "model": model})
            await record_in_all(self._redis, self._api_host, Event(event="model_resumed", model=model))
        elif pause and event == "paused":
            logger.warning("! %s", pause.reason, extra={"event": "model_paused", "model": model})
            change = Event(event="model_paused", model=model, message=message_group(pause.why))
            await record_in_all(self._redis, self._api_host, change)
        elif pause:
            logger.warning("! model %s stays paused for %.0f s: %s", model, pause.pause / 1000, pause.message)


def batch_in(prompt: str) -> str:
    """The batch in a prompt's full name."""
    return prompt.partition("/")[0]


def _flat(rows: Any) -> Iterator[Any]:
    return (value for row in rows for value in row)
