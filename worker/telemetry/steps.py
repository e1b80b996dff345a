"""What a prompt goes through, for its log lines, spans and metrics: a decorator for each part of its way.

Attributes follow OpenTelemetry's conventions for generative AI where these have a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from jobs.logs.facts import log_facts, note_facts
from jobs.wire import Prompt, Result, Shard
from worker.telemetry.metrics import STEPS
from worker.telemetry.spans import Attributes, note, span


class Subject(Protocol):
    """The work on one prompt."""

    @property
    def shard(self) -> Shard:
        """Its shard."""

    @property
    def prompt(self) -> Prompt:
        """The prompt."""


S = TypeVar("S", bound=Subject)
P = ParamSpec("P")
T = TypeVar("T")
OfWork = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]
Step = Literal["create", "wait", "save", "download"]


def of_prompt(function: OfWork[S, P, T]) -> OfWork[S, P, T]:
    """Make a coroutine function the whole way of the prompt that it is called with."""

    @wraps(function)
    async def run(work: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        batch, prompt = work.shard.batch, work.prompt
        attributes = {"replicate_batch.batch": batch, "replicate_batch.prompt": prompt.id}
        with log_facts(batch=batch, prompt=prompt.id, model=prompt.model), span("prompt", attributes):
            return await function(work, *args, **kwargs)

    return run


def of_attempt(function: OfWork[S, P, T]) -> OfWork[S, P, T]:
    """Make a coroutine function one attempt of its prompt, from the waits before its create to its saved output."""

    @wraps(function)
    async def run(work: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with span(f"generate_content {work.prompt.model}", _request(work.prompt), client=True):
            return await function(work, *args, **kwargs)

    return run


def step(name: Step) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Make a coroutine function a step of the attempt that calls it."""
    seconds = STEPS.labels(name)

    def decorate(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            began = time.monotonic()
            try:
                with span(name):
                    return await function(*args, **kwargs)
            finally:
                seconds.observe(time.monotonic() - began)

        return run

    return decorate


def note_prediction(prediction_id: str) -> None:
    """The step is about this prediction."""
    note_facts(prediction=prediction_id)
    note({"gen_ai.response.id": prediction_id})


def note_failure(kind: str) -> None:
    """The attempt failed."""
    note({}, error=kind)


def note_result(result: Result) -> None:
    """The prompt has its result."""
    attributes = {"replicate_batch.status": result.status, "replicate_batch.attempts": result.attempts}
    cost = {} if result.cost is None else {"replicate_batch.cost_dollars": result.cost}
    note({**attributes, **cost}, error=result.error.kind if result.error else "")


def _request(prompt: Prompt) -> Attributes:
    seed = prompt.input.get("seed")
    return {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "replicate",
        "gen_ai.request.model": prompt.model,
        **({"gen_ai.request.seed": seed} if isinstance(seed, int) else {}),
    }
