"""Models that were looked up within the last hour, in Redis, for all commands of an API host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobs.catalog.model import Model
from jobs.catalog.models_file import decode, encode
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

LASTS = 3600
"""Seconds."""


class ModelCache:
    """What is known of the models of one API host."""

    def __init__(self, redis: Redis, api_host: str) -> None:
        self._redis, self._api_host = redis, api_host

    async def read(self, names: Sequence[str]) -> dict[str, Model]:
        """The models that are known."""
        if not names:
            return {}
        found = await self._redis.mget([keys.model(self._api_host, name) for name in names])
        models = ((name, decode(name, text)) for name, text in zip(names, found, strict=True) if text)
        return {name: model for name, model in models if model}

    async def keep(self, models: Iterable[Model]) -> None:
        """Remember models for an hour."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for model in models:
                pipe.set(keys.model(self._api_host, model.name), encode(model), ex=LASTS)
            await pipe.execute()
