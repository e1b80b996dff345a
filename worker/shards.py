"""The path of a shard: what one arq job does, from the queue to its last settled prompt."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

from arq.worker import RetryJob

from jobs.models import Shard
from worker.context import Context, Work
from worker.finish import finish_batch
from worker.predict import predict, settle
from worker.retry import SOON
from worker.saving import recorded

logger = logging.getLogger("worker.shards")


async def predict_shard(ctx: dict[str, Any], shard: Shard) -> None:
    """The one arq job: bring every prompt of a shard to its result, while its lease is ours.

    Lets out nothing but CancelledError and RetryJob: anything else would make arq drop the shard for good.
    """
    worker: Context = ctx["worker"]
    try:
        while lease := ctx["lease"] or await worker.leases.acquire(lease_name(shard.job_id), shard.job_id):
            ctx["lease"] = lease
            if await worker.leases.run(lease, run_shard(worker, shard)):
                return
            ctx["lease"] = None
    except Exception as error:  # whatever it is, the shard must stay in the queue
        logger.exception("! %s: ended unexpectedly, will be run again", shard.job_id)
        await asyncio.sleep(SOON.delay(ctx["job_try"]))
        raise RetryJob from error
    if worker.leases.stopping.is_set():
        raise RetryJob


def lease_name(job_id: str) -> str:
    """The lease of a job's shard, `<batch>:<n>`: one for all its generations."""
    return job_id.rpartition(":")[0]


async def run_shard(worker: Context, shard: Shard) -> None:
    """Bring every prompt of a shard to its result; the last one of a batch finishes the batch."""
    if not await is_ours(worker, shard):
        return
    works = await unsettled(worker, shard)
    logger.info("→ %r, %d to do", shard, len(works))
    if not await worker.batches.cancel_requested(shard.batch):
        await predict_until_canceled(worker, shard, works)
    if await worker.batches.cancel_requested(shard.batch):
        await cancel_rest(worker, shard)
    await finish_batch(worker, shard)


async def is_ours(worker: Context, shard: Shard) -> bool:
    """Tell whether the batch still exists; a worker that does not see its folder stops taking shards."""
    batch = await worker.batches.find(shard.batch)
    if batch is None or batch.id != shard.batch_id:
        logger.warning("! %s: its batch was deleted; dropped", shard.job_id)
        return False
    folder = Work(worker, shard, shard.prompts[0]).folder
    found = await asyncio.to_thread(folder.batch_id)
    if found == shard.batch_id:
        return True
    seen = "there is none" if found is None else "it belongs to another batch"
    logger.error(
        "! %s: this worker does not see the batch's folder: it looked for %s and %s. All producers and workers of one "
        "Redis must see the same BATCH_OUTPUT_DIR; this worker stops.",
        shard.job_id,
        folder.identity.absolute(),
        seen,
    )
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()  # until arq cancels the shard: it stays in the queue
    return False


async def unsettled(worker: Context, shard: Shard) -> list[Work]:
    """The prompts without a result; one whose record is on disk already is settled from it, asking nobody."""
    settled = await worker.batches.settled(shard.batch)
    works = [Work(worker, shard, prompt) for prompt in shard.prompts if prompt.index not in settled]
    records = await asyncio.to_thread(lambda: [recorded(work) for work in works])
    for work, record in zip(works, records, strict=True):
        if record:
            await settle(work, record)
    return [work for work, record in zip(works, records, strict=True) if not record]


async def predict_until_canceled(worker: Context, shard: Shard, works: list[Work]) -> None:
    """Run all prompts at once; when the batch is canceled, stop them where they are."""
    async with asyncio.TaskGroup() as group:
        prompts = [group.create_task(predict(work)) for work in works]
        watch = group.create_task(stop_when_canceled(worker, shard.batch, prompts))
        if prompts:
            await asyncio.wait(prompts)
        watch.cancel()


async def stop_when_canceled(worker: Context, batch: str, prompts: list[asyncio.Task[None]]) -> None:
    """Cancel the prompts' tasks within a second or a poll pass of the batch's cancel flag."""
    while not await worker.batches.cancel_requested(batch):  # noqa: ASYNC110  # the event is in Redis
        await asyncio.sleep(max(worker.config.poll_interval, 1.0))
    for prompt in prompts:
        prompt.cancel()


async def cancel_rest(worker: Context, shard: Shard) -> None:
    """Settle what a canceled batch has left: end running predictions, save those that succeeded meanwhile."""
    if not await is_ours(worker, shard):
        return
    works = await unsettled(worker, shard)
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(predict(work, canceled=True))
