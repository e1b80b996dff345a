"""Whether a Redis is fit to keep jobs: one that forgets keys when it is full, or is too old, is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.errors import UnfitRedis

OLDEST = (5, 0)
"""Older ones refuse a script that writes after it has asked for the time."""

logger = logging.getLogger(__name__)


async def check_server(redis: Redis) -> None:
    """Raise UnfitRedis unless the server is new enough and evicts nothing; one that does not tell is warned of."""
    try:
        judge({**await redis.info("server"), **await redis.info("memory")})
    except ResponseError as error:
        logger.debug("INFO: %s", error)
        judge({})


def judge(info: Mapping[str, Any]) -> None:
    """Raise UnfitRedis for what INFO says of its version and its eviction policy."""
    version, policy = str(info.get("redis_version", "")), info.get("maxmemory_policy")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers and numbers < OLDEST:
        raise UnfitRedis(f"This Redis is too old: {version}. Use Redis {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey.")
    if policy is None:
        logger.warning("! this Redis does not tell its maxmemory-policy: see that it is noeviction, or jobs may vanish")
    elif policy != "noeviction":
        raise UnfitRedis(
            f"This Redis deletes keys when its memory is full (maxmemory-policy is {policy}): jobs, and what is known "
            "to be paid for, would vanish. Set the policy to noeviction, at once with `redis-cli config set "
            "maxmemory-policy noeviction` and for good in its configuration."
        )
