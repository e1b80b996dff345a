"""Whether a Redis can keep jobs: it evicts no keys when it is full, is new enough, and grants the rights we need."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from jobs.errors import UnfitRedis
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

OLDEST = (5, 0)
"""Older ones refuse a script that writes after it has called TIME."""

ACL_LINE = (
    "ACL SETUSER replicate-batch on >PASSWORD ~replicate-batch:* ~arq:* resetchannels -@all +@read +@write "
    "+@connection +@transaction -@dangerous +eval +evalsha +script|load +script|exists +time +info"
)
"""Creates a user of a shared Redis with the rights we need, and no others."""

RIGHTS_CURE = f"An administrator gives these rights: {ACL_LINE}"

CLUSTER = (
    "Redis in cluster mode is not supported: one script here changes several keys, which a cluster keeps in several "
    "places. Use one primary; replicas are welcome, if REDIS_URL always leads to the primary."
)

logger = logging.getLogger(__name__)


async def check_server(redis: Redis) -> None:
    """Raise UnfitRedis unless the server is no cluster, is new enough, evicts nothing and grants the rights we need.

    A server without INFO only gets a warning.
    """
    try:
        check_info({**await redis.info("server"), **await redis.info("memory"), **await redis.info("cluster")})
    except ResponseError as error:
        logger.debug("INFO: %s", error)
        check_info({})
    await check_rights(redis)


async def check_rights(redis: Redis) -> None:
    """Raise UnfitRedis unless this user has the rights we need. The commands that try it change nothing."""
    key = f"{keys.PREFIX}rights"
    try:
        await redis.time()
        await redis.zrem(f"{keys.ARQ_JOB}rights", "nobody")
        await redis.eval("return redis.call('HDEL', KEYS[1], 'nothing')", 1, key)
        async with redis.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            pipe.multi()
            pipe.getbit(key, 0)
            await pipe.execute()
    except ResponseError as error:
        if not is_refused_right(error):
            raise
        raise UnfitRedis(f"This Redis does not let its user do what is needed: {error}. {RIGHTS_CURE}") from error


def is_refused_right(error: BaseException) -> bool:
    """Whether Redis refuses a command or a key for lack of rights; scripts report it in other words."""
    texts = ("has no permissions to", "The user executing the script can't")
    return isinstance(error, NoPermissionError) or any(text in str(error) for text in texts)


def is_cluster_error(error: BaseException) -> bool:
    """Whether only a Redis in cluster mode gives this error."""
    return str(error).startswith(("CROSSSLOT", "MOVED", "ASK ", "CLUSTERDOWN", "Keys in request don't hash"))


def lasting_refusal(error: BaseException) -> UnfitRedis | None:
    """The UnfitRedis for an error, or one of a group, that no retry will cure; None when it may pass."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(lasting_refusal, error.exceptions)), None)
    if not isinstance(error, RedisError):
        return None
    if is_refused_right(error):
        cure = RIGHTS_CURE
    elif is_cluster_error(error):
        cure = CLUSTER
    elif isinstance(error, AuthenticationError):
        cure = "Correct REDIS_URL."
    elif "WRONGTYPE" in str(error):
        cure = (
            "Another program has written to a key of ours: `python -m jobs delete BATCH --force` and enqueue it again."
        )
    else:
        return None
    return UnfitRedis(f"Redis refuses what this worker needs, and no retry will help: {str(error)[:300]}. {cure}")


def check_info(info: Mapping[str, Any]) -> None:
    """Raise UnfitRedis for what INFO says of its mode, its version and its eviction policy."""
    if str(info.get("cluster_enabled", 0)) == "1":
        raise UnfitRedis(CLUSTER)
    version, policy = str(info.get("redis_version", "")), info.get("maxmemory_policy")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers and numbers < OLDEST:
        raise UnfitRedis(f"This Redis is too old: {version}. Use Redis {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey.")
    if policy is None:
        logger.warning(
            "! this Redis does not show its maxmemory-policy: make sure that it is noeviction, or jobs may vanish"
        )
    elif policy != "noeviction":
        raise UnfitRedis(
            f"This Redis deletes keys when its memory is full (maxmemory-policy is {policy}): jobs, and what is known "
            "to be paid for, would vanish. Set the policy to noeviction, at once with `redis-cli config set "
            "maxmemory-policy noeviction` and for good in its configuration."
        )
