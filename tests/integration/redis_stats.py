"""What a Redis server counts of the calls that it got."""

from __future__ import annotations

from jobs.redis_client.resilience import Redis


async def script_calls(redis: Redis) -> int:
    """How many scripts were called."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))
