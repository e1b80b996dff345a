"""Why prompts of a batch wait: what each worker reports, and the sentences that people read."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

Kind = Literal[
    "paused",
    "budget",
    "price",
    "breaker",
    "refused",
    "batch limit",
    "model limit",
    "search",
    "retry",
    "file",
    "upload",
    "folder",
]

FRESH = 15.0
"""Seconds for which a worker's report is valid."""

_SENTENCES: dict[str, str] = {
    "paused": "{count} for their batch to be resumed",
    "budget": "{count} for what running predictions have reserved of the budget",
    "price": "{count}: BATCH_PRICES of a worker has no price for {detail}, and the batch has a --max-cost",
    "breaker": "{count}: model {detail} is paused",
    "refused": "{count}: creates of {detail} were refused in a row, so its rows go one at a time",
    "batch limit": "{count} for the batch's --max-in-flight",
    "model limit": "{count} for the limit of {detail} in BATCH_MODEL_LIMITS",
    "search": "{count}: their creates were never answered, and their predictions are looked for",
    "retry": "{count} to be tried again after: {detail}",
    "file": "{count} for files to be at their URLs: {detail}",
    "upload": "{count} for local files to be uploaded",
    "folder": "{detail}",
}


class Wait(NamedTuple):
    """A number of prompts that wait for the same; `detail` is a model, or a text."""

    kind: Kind
    detail: str = ""
    prompts: int = 0

    def sentence(self, paused_models: Mapping[str, str]) -> str:
        """What `status` shows; for a paused model, the reason of its pause."""
        if self.kind == "breaker" and self.detail in paused_models:
            return paused_models[self.detail]
        count = "1 prompt waits" if self.prompts == 1 else f"{self.prompts:,} prompts wait"
        return _SENTENCES.get(self.kind, "{count}").format(count=count, detail=self.detail)


class Waits:
    """What the workers of one Redis report about its batches."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def report(self, batch: str, worker: str, waits: Iterable[Wait]) -> None:
        """Report what prompts of the batch wait for in this worker; no waits withdraw the report."""
        found, key = list(waits), keys.waits(batch)
        if not found:
            await self._redis.hdel(key, worker)
            return
        text = json.dumps({"until": time.time() + FRESH, "waits": found})
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, worker, text)
            pipe.expire(key, 4 * int(FRESH))
            await pipe.execute()

    async def of(self, batch: str) -> list[Wait]:
        """What prompts of the batch wait for at present, in all workers, the most frequent first."""
        reports = await self._redis.hvals(keys.waits(batch))
        counts: Counter[tuple[Kind, str]] = Counter()
        for one in map(json.loads, reports):
            if one["until"] > time.time():
                for kind, detail, prompts in one["waits"]:
                    counts[kind, detail] += prompts
        return [Wait(kind, detail, prompts) for (kind, detail), prompts in counts.most_common()]
