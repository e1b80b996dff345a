"""Whether a Redis is fit to keep jobs: it forgets no keys when it is full, is new enough, and lets us do our work."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from jobs.errors import UnfitRedis
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis

OLDEST = (5, 0)
"""Older ones refuse a script that writes after it has asked for the time."""

ACL_LINE = (
    "ACL SETUSER replicate-batch on >PASSWORD ~replicate-batch:* ~arq:* resetchannels -@all +@read +@write "
    "+@connection +@transaction -@dangerous +eval +evalsha +script|load +script|exists +time +info"
)
"""What makes a user of a shared Redis who may do what we do, and nothing else."""

RIGHTS_CURE = f"An administrator gives these rights: {ACL_LINE}"

CLUSTER = (
    "Redis in cluster mode is not supported: one script here changes several keys, which a cluster keeps in several "
    "places. Use one primary; replicas are welcome, if REDIS_URL always leads to the primary."
)

logger = logging.getLogger(__name__)


async def check_server(redis: Redis) -> None:
    """Raise UnfitRedis unless the server is one, new enough, evicts nothing, and lets this user do what we do.

    One that does not tell about itself is warned of.
    """
    try:
        judge({**await redis.info("server"), **await redis.info("memory"), **await redis.info("cluster")})
    except ResponseError as error:
        logger.debug("INFO: %s", error)
        judge({})
    await check_rights(redis)


async def check_rights(redis: Redis) -> None:
    """Raise UnfitRedis unless this user may do what we do. What is tried changes nothing."""
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
    """Whether Redis refuses a command since its user may not do it, or not with that key; scripts say it otherwise."""
    texts = ("has no permissions to", "The user executing the script can't")
    return isinstance(error, NoPermissionError) or any(text in str(error) for text in texts)


def is_cluster_error(error: BaseException) -> bool:
    """Whether it is one that only a Redis in cluster mode gives."""
    return str(error).startswith(("CROSSSLOT", "MOVED", "ASK ", "CLUSTERDOWN", "Keys in request don't hash"))


def lasting_refusal(error: BaseException) -> UnfitRedis | None:
    """What an error, or one of a group, says of a Redis that will refuse the same for ever; None when it may pass."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(lasting_refusal, error.exceptions)), None)
    if not isinstance(error, RedisError):
        return None
    if is_refused_right(error):
        cure = RIGHTS_CURE
    elif is_cluster_error(error):
        cure = CLUSTER
    elif isinstance(error, AuthenticationError):
        cure = "Mend REDIS_URL."
    elif "WRONGTYPE" in str(error):
        cure = (
            "Another program has written to a key of ours: `python -m jobs delete BATCH --force` and enqueue it again."
        )
    else:
        return None
    return UnfitRedis(f"Redis refuses what this worker asks, and will go on so: {str(error)[:300]}. {cure}")


def judge(info: Mapping[str, Any]) -> None:
    """Raise UnfitRedis for what INFO says of its mode, its version and its eviction policy."""
    if str(info.get("cluster_enabled", 0)) == "1":
        raise UnfitRedis(CLUSTER)
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
