"""Which predictions serve a prompt, by their claims; and claiming for nobody what serves none."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from jobs.redis_client import keys
from jobs.state.ledger import CLAIM_TTL

NOBODY = "nobody"
"""The claimant of a prediction that no prompt may adopt any more."""


class Claims:
    """The claims of one API host."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis, self._realm = redis, api_host

    async def of(self, prediction_ids: Sequence[str]) -> list[str | None]:
        """Who has claimed each prediction: `<batch>:<index>`, NOBODY, or None, also when the batch is gone."""
        if not prediction_ids:
            return []
        claims = await self._redis.mget([keys.claim(self._realm, id_) for id_ in prediction_ids])
        claimants = [claimant.decode() if claimant else None for claimant in claims]
        gone = await self._gone({claimant for claimant in claimants if claimant and claimant != NOBODY})
        return [None if claimant in gone else claimant for claimant in claimants]

    async def _gone(self, claimants: set[str]) -> set[str]:
        """Those whose batch was deleted or has expired."""
        batches = sorted({claimant.rpartition(":")[0] for claimant in claimants})
        there = {name for name in batches if await self._redis.exists(keys.batch(name))}
        return {claimant for claimant in claimants if claimant.rpartition(":")[0] not in there}

    async def disown(self, prediction_id: str) -> bool:
        """Claim it for nobody, so that no search adopts it; False when it serves a prompt."""
        key = keys.claim(self._realm, prediction_id)
        abandoned = await self.of([prediction_id]) == [None]
        await self._redis.set(key, NOBODY, nx=not abandoned, ex=CLAIM_TTL)
        return bool(await self._redis.get(key) == NOBODY.encode())
