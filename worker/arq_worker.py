"""arq's worker, which also stops cleanly while Redis is away: in seconds, nothing left open, no traceback."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from functools import cached_property
from typing import Any

from arq.worker import Worker
from redis.exceptions import RedisError

from jobs.errors import BatchError, RedisUnreachable
from jobs.logs.setup import report_end, set_up_logs
from jobs.redis_client.outage import SHUTDOWN_DEADLINE, is_passing, reason
from jobs.redis_client.requirements import lasting_refusal
from worker.shard.run_log import dead_letter_unreadable

logger = logging.getLogger(__name__)

COLLECT_EVERY = (20_000, 20, 50)
"""Objects between two collections, and of how many an older generation is collected too. By Python's default of 700 a
tenth of the worker's CPU goes into them, as thousands of prompts are alive, and hardly any of them in a cycle."""

QUIET_AFTER, QUIET_EVERY = 20, 5
"""After so many polls in which no job started or ended, only one in so many is made."""


def collect_garbage_rarely() -> None:
    """Collect cycles of objects more rarely, and never look at what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)


class PatientWorker(Worker):
    """With arq's own worker, a job cancelled in one of arq's calls to Redis makes `close()` raise too early."""

    quiet = 0
    """Polls since a job started or ended."""

    @cached_property
    def finishing(self) -> set[asyncio.Task[Any]]:
        """The running calls of `finish_job`; not set in __init__, as arq reads its settings from that signature."""
        return set()

    def run(self) -> None:
        """Run until a signal, or until Redis was away for too long: then exit with code 3.

        Closing the terminal stops it as Ctrl-C does, unless SIGHUP is ignored, as under nohup.
        """
        config = self.ctx["config"]
        set_up_logs(config)
        collect_garbage_rarely()
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self._add_signal_handler(signal.SIGHUP, self.handle_sig)
        try:
            super().run()
        except BatchError as error:
            report_end(config, error)
            raise SystemExit(error.exit_code) from None
        except (RedisError, OSError) as error:
            if not is_passing(error):
                raise
            report_end(config, f"Redis did not come back: {reason(error)}")
            raise SystemExit(RedisUnreachable.exit_code) from None

    def handle_sig(self, signum: signal.Signals) -> None:
        """Stop the jobs; from now on no call waits long for Redis."""
        SHUTDOWN_DEADLINE.begin()
        creates = len(self.ctx["worker"].creates) if "worker" in self.ctx else 0
        logger.info(
            "stopping on %s: waiting for %d creates that are under way; running predictions will be found again",
            signum.name,
            creates,
            extra={"event": "worker_stopping"},
        )
        super().handle_sig(signum)

    async def _poll_iteration(self) -> None:
        """Poll the queue; raise the reason to stop once there is one."""
        self.quiet = 0 if any(task.done() for task in self.tasks.values()) else self.quiet + 1
        if self.quiet > QUIET_AFTER and self.quiet % QUIET_EVERY:
            return
        slots, only = self.ctx["worker"].job_slots, self.ctx.get("only")
        before = self.tasks.keys() | ()
        try:
            await super()._poll_iteration()
            self.quiet = self.quiet if self.tasks.keys() == before else 0
        except RedisError as error:
            if not (refusal := lasting_refusal(error)):
                raise
            slots.request_stop(refusal)
        if reason := await slots.stop_reason(is_idle=not self.tasks, burst=self.burst, only=only):
            for task in self.tasks.values():
                task.cancel()
            raise reason

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start jobs; with `only` in `ctx` those of one batch, and a burst ends with that batch.

        Those that run here stay in the queue: arq would ask Redis about each of them in every poll.
        """
        slots = self.ctx["worker"].job_slots
        if not (only := self.ctx.get("only")):
            return await super().start_jobs(self._without_running(slots.pick_jobs(job_ids)))
        mine = await self._jobs_of(only, job_ids)
        await super().start_jobs(self._without_running(slots.pick_jobs(mine)))
        if self.burst and not mine and not self.tasks and self.main_task:
            self.main_task.cancel()
        return None

    def _without_running(self, job_ids: list[bytes]) -> list[bytes]:
        return [job for job in job_ids if job.decode() not in self.tasks]

    async def _jobs_of(self, batch: str, head: list[bytes]) -> list[bytes]:
        """The batch's jobs in the first part of the queue that has any; `head` is the first part."""
        prefix, start = f"{batch}:".encode(), 0
        while not (mine := [job for job in head if job.startswith(prefix)]) and len(head) == self.queue_read_limit:
            start += len(head)
            head = await self.pool.zrange(self.queue_name, start, start + self.queue_read_limit - 1)
        return mine

    async def finish_job(self, *arguments: Any) -> None:
        """Record the end of a job in Redis; while Redis is away the job stays in the queue."""
        if task := asyncio.current_task():  # a task of arq's that outlives the job's task when that one is cancelled
            self.finishing.add(task)
            task.add_done_callback(self.finishing.discard)
        try:
            await super().finish_job(*arguments)
        except (RedisError, OSError) as error:
            if not is_passing(error):
                raise
            logger.debug("job %s: its end was not recorded: %s", arguments[0], error)

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """Move a job whose payload is gone to the dead letters, then remove it from the queue."""
        if await self.pool.zscore(self.queue_name, job_id) is not None:
            await dead_letter_unreadable(self.ctx["worker"], job_id)
        await super().finish_failed_job(job_id, result_data)

    async def close(self) -> None:
        """Wait for the jobs to end and close everything, whether Redis answers or not."""
        self.ctx["is_done"] = self.burst and not SHUTDOWN_DEADLINE.begun
        SHUTDOWN_DEADLINE.begin()
        while ending := {task for task in (*self.tasks.values(), *self.finishing) if not task.done()}:
            await asyncio.wait(ending)
        for job, task in self.tasks.items():
            error = None if task.cancelled() else task.exception()
            if error and not is_passing(error):
                logger.error("! %s: ended unexpectedly", job, exc_info=error)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        try:
            await self.pool.delete(self.health_check_key)
        except (RedisError, OSError) as error:
            logger.debug("at the end: %s", error)
        await self.pool.aclose(close_connection_pool=True)
