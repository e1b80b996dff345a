"""The settings that `arq worker.Settings` reads. Importing this module reads the configuration."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import arq.worker

from jobs.config import Config
from jobs.errors import BatchError, ConfigError
from jobs.logs.setup import report_end
from jobs.network import Network
from jobs.queue.shard_queue import deserialize, serialize
from jobs.redis_client import keys
from jobs.redis_client.client import arq_redis, arq_settings, opened, redis_url
from jobs.redis_client.requirements import check_server
from worker.arq_worker import PatientWorker
from worker.context import job_slots
from worker.lifecycle import acquire_lease, release_lease, shutdown, startup
from worker.shard.run import predict_shard


def _configuration() -> tuple[Config, str]:
    """Read the settings and check Redis; an error ends the process with one sentence."""
    config = None
    try:
        config = Config.load()
        if config.replicate_api_token is None:
            raise ConfigError(
                "REPLICATE_API_TOKEN is not set. Put it in the environment or in .env; "
                "you find it at https://replicate.com/account/api-tokens"
            )
        Network.load()
        asyncio.run(_check_redis(config))
        return config, redis_url(config)
    except BatchError as error:
        report_end(config, error)
        raise SystemExit(error.exit_code) from None


async def _check_redis(config: Config) -> None:
    async with opened(config) as redis:
        await check_server(redis)


_config, _url = _configuration()
arq.worker.Worker = PatientWorker  # type: ignore[misc]  # arq's command line always creates a worker of that name


class Settings:
    """arq reads these from the class's own `__dict__`: nothing here may be inherited."""

    functions: ClassVar[list[Any]] = [predict_shard]
    queue_name = keys.queue(_config.api_host)
    redis_settings = arq_settings(_url)
    redis_pool = arq_redis(_url)
    job_serializer = serialize
    job_deserializer = deserialize
    on_startup = startup
    on_shutdown = shutdown
    on_job_start = acquire_lease
    after_job_end = release_lease
    ctx: ClassVar[dict[str, Any]] = {"config": _config}
    # With one function and no timeout, arq's in-progress mark lasts 10 s; the lease renews it from then on.
    job_timeout = None
    max_jobs = job_slots(_config)
    # Running jobs stay in the queue, so all workers together see only this many of its head.
    queue_read_limit = 5000
    # arq counts restarts as tries and drops a job for good after them; attempts are counted in the ledger.
    max_tries = 2**31
    poll_delay = 0.05
    keep_result = 0
    log_results = False
    health_check_interval = 10
