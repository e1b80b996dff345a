"""Looking for predictions whose create was never answered: they are in the account's list, or they do not exist.

Replicate has no idempotency key, so an equal input, an equal model and a missing claim are all there is to know
a prediction by. Predictions of equal prompts are interchangeable.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from jobs.errors import ReplicateError, Unanswered
from jobs.replicate_api.predictions import Prediction, Replicate
from jobs.wire import Prompt
from worker.background import every
from worker.limits.request_gate import RequestGate
from worker.polling.listing import list_pages

MARGIN = 120.0
"""Seconds by which a prediction may seem older than its intent: clocks differ."""

BETWEEN_SWEEPS = 1.0


@dataclass(slots=True, eq=False)
class _Search:
    since: float
    until: float
    found: asyncio.Future[list[Prediction]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Orphans:
    """Sweeps for all who search at the same time are one sweep."""

    def __init__(self, replicate: Replicate, gate: RequestGate) -> None:
        self._replicate = replicate
        self._gate = gate
        self._searches: list[_Search] = []
        self._wake = asyncio.Event()

    async def sweep(self, prompt: Prompt, since: float, until: float) -> list[str]:
        """Ids of predictions like the prompt's, created in that span, by a sweep that begins after this call.

        Unix seconds by our clock; oldest first. Raises ReplicateError when the list could not be read.
        """
        search = _Search(since - MARGIN, until + MARGIN)
        self._searches.append(search)
        self._wake.set()
        predictions = await search.found
        return [prediction.id for prediction in reversed(predictions) if serves(prediction, prompt)]

    def running(self) -> AbstractAsyncContextManager[None]:
        """Read the list while somebody searches, until the block ends."""
        return every(BETWEEN_SWEEPS, self._answer_all, wake=self._wake)

    async def _answer_all(self) -> float:
        """Answer all who search by reading the list once."""
        searches, self._searches = self._searches, []
        if searches:
            since, until = min(search.since for search in searches), max(search.until for search in searches)
            try:
                pages = [page async for page in list_pages(self._replicate, self._gate, since, until)]
            except ReplicateError as error:
                self._answer(searches, error)
            except Exception as error:
                self._answer(searches, Unanswered(f"the list cannot be read: {error}"))
                raise
            else:
                self._answer(searches, [prediction for page in pages for prediction in page.predictions])
            await asyncio.sleep(BETWEEN_SWEEPS)
        return math.inf

    @staticmethod
    def _answer(searches: list[_Search], answer: list[Prediction] | ReplicateError) -> None:
        for search in searches:
            if search.found.done():
                continue
            if isinstance(answer, ReplicateError):
                search.found.set_exception(answer)
            else:
                search.found.set_result(answer)


def serves(prediction: Prediction, prompt: Prompt) -> bool:
    """Tell whether the prediction could be the prompt's: an equal input, and no other model or version named."""
    given = prediction.raw.get("input")
    return (
        isinstance(given, dict)
        and given == prompt.input  # 7.0 equals 7: numbers may be rewritten
        and _same_model(prediction, prompt.model)
    )


def _same_model(prediction: Prediction, model: str) -> bool:
    """Compare what was asked with what is shown: a version where one was asked, since models are renamed."""
    if model.startswith("deployments/"):
        return _agrees(prediction.text("deployment"), model.removeprefix("deployments/"))
    version = model.rpartition(":")[2] if ":" in model or "/" not in model else ""
    return _agrees(prediction.text("version"), version) if version else _agrees(prediction.text("model"), model)


def _agrees(shown: str | None, asked: str) -> bool:
    return not shown or shown == "hidden" or shown.lower() == asked.lower()
