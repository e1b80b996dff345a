"""Rescue: the running predictions of a dead worker are saved in time, even while every job slot is taken.

arq starts a shard only when a slot is free, and Replicate deletes outputs after an hour. So a worker without a free
slot searches for open attempts of shards that nobody holds, acquires their leases, and polls and saves the
predictions. It creates nothing: the other prompts of such a shard wait for a slot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from jobs.batch_folder.folder import Folder
from jobs.errors import BatchError
from jobs.queue.payload import JobId, PayloadError, unpack
from jobs.queue.shard_queue import Queue
from jobs.state.batches import AT_WORK, Standing
from jobs.state.ledger import Overtaken
from jobs.state.pending import open_attempts
from jobs.wire import SHARD_SIZE, Batch, Shard
from worker.background import every
from worker.context import Context, Work
from worker.leases import Lease, lease_name
from worker.prompt.predict import predict, resume
from worker.shard.finish import finish_batch, finish_left_over
from worker.shard.price_cards import load_cards
from worker.shard.run import cancel_reason
from worker.shard.run_log import record_run

logger = logging.getLogger(__name__)


class Rescue:
    """The rescues of one worker; it also finishes batches whose last job was lost."""

    def __init__(self, worker: Context) -> None:
        self._worker = worker
        self._queue = Queue(worker.redis, worker.config.api_host)
        self._under_way: set[asyncio.Task[None]] = set()
        self._done: set[str] = set()
        self._complete: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Search every BATCH_LEASE seconds until the block ends; finishing may take minutes, so it has its own loop."""
        seconds = self._worker.config.lease
        try:
            async with every(seconds, self._search_if_full), every(seconds, self._finish_left_over):
                yield
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _search_if_full(self) -> None:
        if self._worker.job_slots.is_full:
            await self.search()

    async def _finish_left_over(self) -> None:
        self._complete = await finish_left_over(self._worker, self._complete)

    async def search(self) -> None:
        """Start a rescue of every shard with open attempts that nobody holds and no worker has a slot for."""
        batches = self._worker.batches
        for name in await batches.names():
            batch = await batches.find(name)
            if batch and batch.api_host == self._worker.config.api_host and not batch.finished_at:
                await self._search_batch(batch)

    async def _search_batch(self, batch: Batch) -> None:
        attempts = await open_attempts(self._worker.redis, batch.name)
        indexes = [index for index, nonce in attempts.items() if nonce not in self._done]
        leases = self._worker.leases
        names = sorted({f"{batch.name}:{index // SHARD_SIZE}" for index in indexes})
        if not (names := await leases.find_unheld(names)):
            return
        await asyncio.sleep(self._worker.timing.first_refusal)
        names = await leases.find_unheld(names)
        for job_id in await self._queue.jobs(batch.name) if names else ():
            if lease_name(job_id) in names and (lease := await leases.try_acquire(lease_name(job_id), job_id)):
                task = asyncio.create_task(self._rescue_shard(lease, set(indexes)))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _rescue_shard(self, lease: Lease, indexes: set[int]) -> None:
        try:
            await self._worker.leases.run(lease, self._run(JobId.parse(lease.job), indexes))
        except RedisError as error:
            logger.debug("%s: not rescued, %s", lease.job, error)
        except Exception:  # the shard's own run may succeed
            logger.exception("! %s: could not be rescued", lease.job)
        finally:
            await self._worker.leases.release(lease, reopen=True)

    async def _run(self, job: JobId, indexes: set[int]) -> None:
        worker = self._worker
        async with record_run(worker, job, whole=False) as dead_letter:
            shard = None if dead_letter else await self._load_shard(job)
            standing = await worker.batches.standing(shard.batch, shard.batch_id) if shard else "gone"
            if shard is None or standing not in AT_WORK:
                return
            mine = [prompt for prompt in shard.prompts if prompt.index in indexes]
            cards = await asyncio.to_thread(load_cards, Folder(worker.config.output_dir, shard.batch))
            works = [
                Work(worker, shard, prompt, limited=standing in ("limited", "paused"), cards=cards) for prompt in mine
            ]
            if works:
                logger.info("+ %s: nobody has a slot for it; its %d open predictions are followed", job, len(works))
                with worker.folders.using(works[0].folder, shard.batch_id):
                    await self._follow(works, standing)
                await finish_batch(worker, shard)

    async def _load_shard(self, job: JobId) -> Shard | None:
        """The shard; None when it cannot be read, which its own run reports."""
        payload = await self._queue.payload(str(job))
        try:
            return await asyncio.to_thread(unpack, payload, str(job)) if payload else None
        except PayloadError:
            return None

    async def _follow(self, works: list[Work], standing: Standing) -> None:
        async with asyncio.TaskGroup() as group:
            prompts = [group.create_task(self._resume_prompt(work, standing)) for work in works]
            watch = group.create_task(self._cancel_once_free(prompts))
            await asyncio.wait(prompts)
            watch.cancel()

    async def _resume_prompt(self, work: Work, standing: Standing) -> None:
        nonce = (await work.ledger.read()).nonce
        marked = await self._worker.batches.to_cancel(work.shard.batch, work.shard.number)
        if reason := cancel_reason(work, standing, marked):
            return await predict(work, canceled=reason)
        try:
            await resume(work)
        except (Overtaken, BatchError) as error:
            logger.info("? %s: %s; left to its shard's run", work.name, error)
        else:
            self._done.add(nonce)
        return None

    async def _cancel_once_free(self, prompts: list[asyncio.Task[None]]) -> None:
        """Cancel the prompts when a slot stays free, so that arq can start the shard's own run."""
        free = 0
        while free < 2:
            await asyncio.sleep(self._worker.timing.first_refusal)
            free = 0 if self._worker.job_slots.is_full else free + 1
        for prompt in prompts:
            prompt.cancel()
