"""Claims: which prompt each prediction serves, so that none serves two, and no orphan is adopted too late."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

CLAIM_TTL = 7200
"""Seconds that a prediction stays claimed: longer than Replicate can show it with its input."""

NOBODY = "nobody"
"""The claimant of a prediction that no prompt may adopt."""


class Claims:
    """The claims of one API host."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis, self._api_host = redis, api_host

    async def of(self, prediction_ids: Sequence[str]) -> list[str | None]:
        """Who has claimed each prediction: `<batch>:<index>`, NOBODY, or None, also when the batch is gone."""
        claimants = await self._read(prediction_ids)
        gone = await self._gone({claimant for claimant in claimants if claimant and claimant != NOBODY})
        return [None if claimant in gone else claimant for claimant in claimants]

    async def unclaimed(self, prediction_ids: Sequence[str]) -> list[str]:
        """Those predictions that nobody has claimed, in the same order; a claim counts also when its batch is gone."""
        claimants = await self._read(prediction_ids)
        return [id_ for id_, claimant in zip(prediction_ids, claimants, strict=True) if claimant is None]

    async def disown(self, prediction_id: str) -> bool:
        """Claim it for nobody, so that no search adopts it and it may be canceled; False when it serves a prompt.

        True also when it is disowned already: the answer to an earlier call may have been lost.
        """
        key = keys.claim(self._api_host, prediction_id)
        if await self._redis.set(key, NOBODY, nx=True, ex=CLAIM_TTL):
            return True
        # Replace only the claim of a batch that is gone: what has no claim may be adopted at any moment.
        if await self.of([prediction_id]) == [None]:
            await self._redis.set(key, NOBODY, ex=CLAIM_TTL)
        return bool(await self._redis.get(key) == NOBODY.encode())

    async def _read(self, prediction_ids: Sequence[str]) -> list[str | None]:
        if not prediction_ids:
            return []
        claims = await self._redis.mget([keys.claim(self._api_host, id_) for id_ in prediction_ids])
        return [claimant.decode() if claimant else None for claimant in claims]

    async def _gone(self, claimants: set[str]) -> set[str]:
        """Those whose batch was deleted or has expired."""
        batches = sorted({claimant.rpartition(":")[0] for claimant in claimants})
        there = {name for name in batches if await self._redis.exists(keys.batch(name))}
        return {claimant for claimant in claimants if claimant.rpartition(":")[0] not in there}
