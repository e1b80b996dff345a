"""The path of a shard: what one arq job does, from the queue to its last settled prompt."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import Any

from arq.worker import RetryJob

from jobs.batches import Standing
from jobs.errors import StorageError
from jobs.folder import Folder
from jobs.models import Result, Shard
from worker.context import Context, Work
from worker.finish import finish_batch
from worker.predict import predict, settle
from worker.retry import SOON
from worker.saving import recorded

logger = logging.getLogger("worker.shards")
UNWRITABLE_PAUSE = 5.0


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
    except RetryJob:
        raise
    except Exception as error:  # whatever it is, the shard must stay in the queue
        logger.exception("! %s: ended unexpectedly, will be run again", shard.job_id)
        await worker.leases.sleep(SOON.delay(ctx["job_try"]))
        raise RetryJob from error
    if worker.leases.stopping.is_set():
        raise RetryJob


def lease_name(job_id: str) -> str:
    """The lease of a job's shard, `<batch>:<n>`: one for all its generations."""
    return job_id.rpartition(":")[0]


async def run_shard(worker: Context, shard: Shard) -> None:
    """Bring every prompt of a shard to its result, however often its batch is canceled and retried meanwhile.

    RetryJob when a newer batch has its name: the job in the queue is that one's.
    """
    folder = Folder(worker.config.output_dir, shard.batch)
    while (standing := await worker.batches.standing(shard.batch, shard.batch_id)) in ("open", "canceled"):
        await see_folder(shard, folder)
        if standing == "open" and not await writable(worker, folder):
            continue
        works = await unsettled(worker, shard)
        if not works:
            return await finish_batch(worker, shard)
        logger.info("→ %r%s", shard, f", {len(works)} to do" if len(works) < len(shard.prompts) else "")
        await predict_while(worker, shard, works, standing)
    logger.warning("! %s: its batch was deleted; dropped", shard.job_id)
    if standing == "replaced":
        await worker.leases.sleep(1.0)
        raise RetryJob
    return None


async def see_folder(shard: Shard, folder: Folder) -> None:
    """Look for the batch's folder; a worker that does not see it stops taking shards, and leaves this one."""
    found = await asyncio.to_thread(folder.batch_id)
    if found == shard.batch_id:
        return
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


async def writable(worker: Context, folder: Folder) -> bool:
    """Tell, after a while, that nothing may be created for a folder that cannot take it; `status` shows the reason."""
    if await asyncio.to_thread(os.access, folder.path, os.W_OK | os.X_OK):
        return True
    logger.warning("! %s: %s is not writable; waiting", folder.batch, folder.path)
    await worker.account.report_trouble(f"{folder.path} is not writable; make it so, or mend BATCH_OUTPUT_DIR")
    await asyncio.sleep(UNWRITABLE_PAUSE)
    return False


async def unsettled(worker: Context, shard: Shard) -> list[Work]:
    """The prompts without a result; one whose record is on disk already is settled from it, asking nobody."""
    settled, terms = await worker.batches.settled(shard.batch), await worker.batches.terms(shard.batch)
    works = [Work(worker, shard, prompt) for prompt in shard.prompts if prompt.index not in settled]
    records = await asyncio.to_thread(lambda: [_glance(work) for work in works])
    for work, record in zip(works, records, strict=True):
        if record:
            await settle(work, record, terms.get(work.prompt.index, 0))
    return [work for work, record in zip(works, records, strict=True) if not record]


def _glance(work: Work) -> Result | None:
    """The record if the disk shows it at once; a disk in trouble is the prompt's own to wait for."""
    with suppress(StorageError):
        return recorded(work)
    return None


async def predict_while(worker: Context, shard: Shard, works: list[Work], standing: Standing) -> None:
    """Run all prompts at once, or end them if the batch is canceled; stop them when that changes."""
    async with asyncio.TaskGroup() as group:
        prompts = [group.create_task(predict(work, canceled=standing == "canceled")) for work in works]
        watch = group.create_task(stop_when_changed(worker, shard, standing, prompts))
        await asyncio.wait(prompts)
        watch.cancel()


async def stop_when_changed(
    worker: Context, shard: Shard, standing: Standing, prompts: list[asyncio.Task[None]]
) -> None:
    """Cancel the prompts' tasks within a second or a poll pass of the batch being canceled, retried or deleted."""
    while await worker.batches.standing(shard.batch, shard.batch_id) == standing:  # noqa: ASYNC110  # it is in Redis
        await asyncio.sleep(max(worker.config.poll_interval, 1.0))
    for prompt in prompts:
        prompt.cancel()
