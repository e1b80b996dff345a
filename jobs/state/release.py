"""Releases what a batch holds of limits that all batches share: predictions in flight of models, and probes."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis


async def release_batch(redis: Redis, api_host: str, batch: str) -> None:
    """Release all that a deleted batch holds; its prompts acquire nothing more."""
    await _release(redis, api_host, f"{batch}/")


async def release_prompts(redis: Redis, api_host: str, prompts: Iterable[str]) -> None:
    """Release what prompts (`<batch>/<prompt id>`) hold whose shard is a dead letter."""
    await _release(redis, api_host, "", *prompts)


async def _release(redis: Redis, api_host: str, *meant: str) -> None:
    models = await redis.smembers(keys.limited_models(api_host))
    in_flight = [keys.model_in_flight(api_host, model.decode()) for model in sorted(models)]
    await load_script(redis, __name__)(keys=[keys.paused_models(api_host), *in_flight], args=list(meant))
