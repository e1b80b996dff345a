"""The reporter of what this worker's prompts wait for: to `status`, and to the log when a wait begins and ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.redis_client.resilience import Redis
from jobs.state.waits import FRESH, Kind, Wait, Waits
from worker.limits.circuit_breaker import batch_in

BEFORE_CREATE: tuple[Kind, ...] = (
    "paused",
    "budget",
    "price",
    "breaker",
    "refused",
    "batch limit",
    "model limit",
    "folder",
)
"""A prompt that waits for one of these holds nothing, and has no prediction."""

LOGGED: tuple[Kind, ...] = ("budget", "price", "batch limit", "model limit")
"""The others are logged where they begin."""

OVER = 10.0
"""Seconds after which a wait that was not seen again has ended: short gaps are normal."""

MOST_REPORTED = 5
LONGEST_DETAIL = 300

logger = logging.getLogger(__name__)


class WaitReporter:
    """All waits of one worker; `report_changes` is called every second."""

    def __init__(self, redis: Redis, owner: str) -> None:
        self._waits = Waits(redis)
        self._owner = owner
        self.over = OVER
        self._of_prompts: dict[str, tuple[Kind, str]] = {}
        self._of_batches: dict[str, str] = {}
        self._reported: dict[str, tuple[list[Wait], float]] = {}
        self._logged: dict[tuple[str, Kind, str], float] = {}

    @contextmanager
    def on(self, prompt: str, kind: Kind, detail: str = "") -> Iterator[None]:
        """The prompt (its full name) waits in the block."""
        self._of_prompts[prompt] = (kind, " ".join(detail.split())[:LONGEST_DETAIL])
        try:
            yield
        finally:
            self._of_prompts.pop(prompt, None)

    def reason_before_create(self, prompt: str) -> str:
        """What the prompt waits for before its create, in short; "" when it does not."""
        kind, detail = self._of_prompts.get(prompt, ("", ""))
        if kind not in BEFORE_CREATE:
            return ""
        return f"{kind} {detail or batch_in(prompt)}"

    def count_by_kind(self) -> Counter[Kind]:
        """How many prompts wait, by what for."""
        return Counter(kind for kind, _ in self._of_prompts.values())

    def note(self, batch: str, reason: str) -> None:
        """Note why a whole batch waits in this worker; "" when it waits no more."""
        self._of_batches[batch] = reason
        if not reason:
            del self._of_batches[batch]

    async def report_changes(self) -> None:
        """Report what has changed, and what would expire."""
        now, waits = asyncio.get_running_loop().time(), self._by_batch()
        self._log(waits, now)
        for batch in sorted({*waits, *self._reported}):
            reported, at = self._reported.get(batch, ([], 0.0))
            if waits.get(batch, []) != reported or (reported and now > at + FRESH / 3):
                await self._waits.report(batch, self._owner, waits.get(batch, []))
                self._reported[batch] = waits.get(batch, []), now
        self._reported = {batch: entry for batch, entry in self._reported.items() if entry[0]}

    def _by_batch(self) -> dict[str, list[Wait]]:
        counts: dict[str, Counter[tuple[Kind, str]]] = defaultdict(Counter)
        for prompt, wait in self._of_prompts.items():
            counts[batch_in(prompt)][wait] += 1
        found = {
            batch: [Wait(kind, detail, prompts) for (kind, detail), prompts in of_batch.most_common(MOST_REPORTED)]
            for batch, of_batch in counts.items()
        }
        for batch, reason in self._of_batches.items():
            others = [wait for wait in found.get(batch, []) if wait.kind != "folder"]
            found[batch] = [*others, Wait("folder", reason)]
        return found

    def _log(self, waits: dict[str, list[Wait]], now: float) -> None:
        for batch, of_batch in waits.items():
            for wait in of_batch:
                if wait.kind in LOGGED:
                    if (batch, wait.kind, wait.detail) not in self._logged:
                        logger.info("%s: %s", batch, wait.sentence({}))
                    self._logged[batch, wait.kind, wait.detail] = now
        for key, seen in list(self._logged.items()):
            if now > seen + self.over:
                del self._logged[key]
                logger.info("%s: nothing waits for the %s any more", key[0], " of ".join(filter(None, key[1:])))
