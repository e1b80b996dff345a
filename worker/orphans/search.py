"""The search for predictions whose create was not answered: they are in the account's list, or do not exist.

Replicate has no idempotency key, so a prediction is identified by an equal input, an equal model and a missing claim.
Predictions of equal prompts are interchangeable.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from jobs.errors import ReplicateError, Unanswered
from jobs.replicate_api.predictions import Prediction, Replicate
from jobs.state.claims import Claims
from jobs.wire import Prompt
from worker.background import every
from worker.limits.request_gate import RequestGate
from worker.orphans.matching import NONE, UploadIds, could_serve
from worker.polling.list_pass import list_pages

MARGIN = 120.0
"""Seconds by which a prediction may seem older than its intent, as clocks differ."""


@dataclass(slots=True, eq=False)
class _Query:
    since: float
    until: float
    found: asyncio.Future[list[Prediction]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class OrphanSearch:
    """Reads the account's list once for all searches of the same time."""

    def __init__(self, replicate: Replicate, gate: RequestGate, claims: Claims, pause: float) -> None:
        self._replicate = replicate
        self._gate = gate
        self._claims = claims
        self._pause = pause
        self._queries: list[_Query] = []
        self._wake = asyncio.Event()

    async def find(self, prompt: Prompt, since: float, until: float, uploads: UploadIds = NONE) -> list[str]:
        """Ids of unclaimed predictions like the prompt's, created in that span, from a list read after this call.

        Unix seconds by our clock; oldest first. `uploads` are those of the prompt's local files. Raises ReplicateError
        when the list could not be read.
        """
        query = _Query(since - MARGIN, until + MARGIN)
        self._queries.append(query)
        self._wake.set()
        predictions = await query.found
        like = [prediction.id for prediction in reversed(predictions) if could_serve(prediction, prompt, uploads)]
        return await self._claims.unclaimed(like)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Answer searches until the block ends."""
        return every(self._pause, self._answer_all, wake=self._wake)

    async def _answer_all(self) -> float:
        """Answer all searches from one read of the list."""
        queries, self._queries = self._queries, []
        if queries:
            since, until = min(query.since for query in queries), max(query.until for query in queries)
            try:
                pages = [page async for page in list_pages(self._replicate, self._gate, since, until)]
            except ReplicateError as error:
                self._answer(queries, error)
            except Exception as error:
                self._answer(queries, Unanswered(f"the list cannot be read: {error}"))
                raise
            else:
                self._answer(queries, [prediction for page in pages for prediction in page.predictions])
            await asyncio.sleep(self._pause)
        return math.inf

    @staticmethod
    def _answer(queries: list[_Query], answer: list[Prediction] | ReplicateError) -> None:
        for query in queries:
            if query.found.done():
                continue
            if isinstance(answer, ReplicateError):
                query.found.set_exception(answer)
            else:
                query.found.set_result(answer)
