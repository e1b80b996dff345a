"""The path of a shard: what one arq job does, from the queue to its last settled prompt."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from arq.worker import RetryJob

from jobs.batch_folder.folder import Folder
from jobs.errors import ForeignFolder, StorageError
from jobs.queue.payload import JobId, Parcel, PayloadError, unpack
from jobs.redis_client.requirements import lasting_refusal
from jobs.state.batches import AT_WORK, Standing
from jobs.state.pending import read_pending
from jobs.state.release import release_prompts
from jobs.wire import Result, Shard
from worker.context import Context, Work
from worker.leases import lease_name
from worker.outputs.folder_health import sweep, write_problem
from worker.prompt.predict import predict, settle
from worker.prompt.retry_policy import SOON
from worker.prompt.save import read_record
from worker.shard.finish import finish_batch
from worker.shard.run_log import on_record, set_aside, tell

logger = logging.getLogger(__name__)
UNWRITABLE_PAUSE = 5.0


async def predict_shard(ctx: dict[str, Any], parcel: Parcel) -> None:
    """The one arq job: bring every prompt of a shard to its result, while its lease is ours.

    Lets out nothing but CancelledError and RetryJob: anything else would make arq drop the shard for good.
    """
    worker: Context = ctx["worker"]
    job_id: str = ctx["job_id"]
    try:
        while lease := ctx["lease"] or await worker.leases.acquire(lease_name(job_id), job_id):
            ctx["lease"] = lease
            if await worker.leases.run(lease, run_job(worker, job_id, parcel, ctx.get("score", 0))):
                return
            ctx["lease"] = None
    except RetryJob:
        raise
    except Exception as error:  # whatever it is, the shard must stay in the queue
        if refusal := lasting_refusal(error):
            worker.job_slots.close(refusal)
        else:
            logger.exception("! %s: ended unexpectedly, will be run again", job_id)
        await worker.leases.sleep(SOON.delay(ctx["job_try"]))
        raise RetryJob from error
    if worker.leases.stopping.is_set():
        raise RetryJob


async def run_job(worker: Context, job_id: str, parcel: Parcel, score: float = 0.0) -> None:
    """Run the job's shard, on record; return at once when it is set aside, and set aside what cannot be read."""
    try:
        job = JobId.parse(job_id)
    except PayloadError as error:
        logger.error("! dropped from the queue: %s", error)  # noqa: TRY400 - nobody here put it there
        return None
    async with on_record(worker, job) as reason:
        if reason:
            tell(job, reason)
            return await let_go(worker, parcel, job_id)
        try:
            shard = await asyncio.to_thread(unpack, parcel.payload, job_id)
        except PayloadError as error:
            return await set_aside(worker, job, str(error))
        await run_shard(worker, shard, score)
    return None


async def let_go(worker: Context, parcel: Parcel, job_id: str) -> None:
    """Release what the prompts of a shard hold that is set aside: what runs of them is followed by nobody."""
    try:
        shard = await asyncio.to_thread(unpack, parcel.payload, job_id)
    except PayloadError as error:
        logger.debug("%s: nothing to release: %s", job_id, error)
        return
    works = [Work(worker, shard, prompt) for prompt in shard.prompts]
    await release_prompts(worker.redis, worker.config.api_host, [work.name for work in works])
    await asyncio.gather(*(worker.batch_limiter.release(shard, prompt.index) for prompt in shard.prompts))


async def run_shard(worker: Context, shard: Shard, score: float = 0.0) -> None:
    """Bring every prompt of a shard to its result, however often its batch is canceled, retried and limited meanwhile.

    RetryJob when a newer batch has its name: the job in the queue is that one's.
    """
    folder = Folder(worker.config.output_dir, shard.batch)
    while (standing := await worker.batches.standing(shard.batch, shard.batch_id)) in AT_WORK:
        if not await see_folder(worker, shard, folder):
            worker.job_slots.skip_batch(shard.batch)
            raise RetryJob
        if standing != "canceled" and not await writable(worker, shard, folder, score, standing):
            continue
        works = await left_of(worker, shard, score, limited=standing == "limited")
        if not works:
            return await finish_batch(worker, shard, score)
        logger.info("→ %r%s", shard, f", {len(works)} to do" if len(works) < len(shard.prompts) else "")
        if not await predict_while(worker, shard, works, standing):
            logger.debug("%s: has only to wait; other shards go first", shard.job_id)
            worker.job_slots.defer(shard.job_id)
            raise RetryJob
    logger.warning("! %s: its batch was deleted; dropped", shard.job_id)
    if standing == "replaced":
        await worker.leases.sleep(1.0)
        raise RetryJob
    return None


async def see_folder(worker: Context, shard: Shard, folder: Folder) -> bool:
    """Look for the batch's folder; a worker that never saw it leaves the batch alone, and `status` says so."""
    if shard.batch_id in worker.folders.seen:
        return True
    try:
        found = await asyncio.to_thread(folder.batch_id)
    except ForeignFolder:  # there is one, that cannot be read
        return True
    if found == shard.batch_id:
        worker.folders.seen.add(shard.batch_id)
        worker.folders.unseen.discard(shard.batch_id)
        worker.job_slots.resume_batch(shard.batch)
        worker.waits.note(shard.batch, "")
        return True
    reason = (
        f"worker {worker.leases.owner.rpartition(':')[0]} does not see the batch's folder: it looked for "
        f"{folder.manifest.absolute()} and {'there is none' if found is None else 'it belongs to another batch'}. "
        "All producers and workers of one Redis must see the same BATCH_OUTPUT_DIR. If the folder is gone for good: "
        f"python -m jobs delete {shard.batch} --force"
    )
    if shard.batch_id not in worker.folders.unseen:
        worker.folders.unseen.add(shard.batch_id)
        logger.error("! %s is left alone: %s", shard.batch, reason)
    worker.waits.note(shard.batch, reason)
    return False


async def writable(worker: Context, shard: Shard, folder: Folder, score: float, standing: Standing) -> bool:
    """Whether the folder takes outputs; False after a wait for that. RetryJob when others need the slot meanwhile."""
    reason = await asyncio.to_thread(write_problem, folder, shard.batch_id)
    if reason is None:
        return True
    logger.warning("! %s: waiting: %s", shard.job_id, reason)
    with worker.folders.using(folder, shard.batch_id), worker.job_slots.hold(shard.job_id, score) as slot:
        slot.note(frozenset({f"folder {shard.batch}"}))
        while reason and await worker.batches.standing(shard.batch, shard.batch_id) == standing:
            if slot.must_yield:
                worker.job_slots.defer(shard.job_id)
                raise RetryJob
            await asyncio.sleep(UNWRITABLE_PAUSE)
            reason = await asyncio.to_thread(write_problem, folder, shard.batch_id)
    return False


async def left_of(worker: Context, shard: Shard, score: float = 0.0, *, limited: bool = False) -> list[Work]:
    """The prompts without a result; one whose record is on disk already is settled from it, asking nobody."""
    found = await read_pending(worker.redis, shard.batch, [prompt.index for prompt in shard.prompts])
    prompts = [prompt for prompt in shard.prompts if prompt.index in found]
    works = [Work(worker, shard, prompt, score=score, limited=limited) for prompt in prompts]
    left = []
    for work, record in await asyncio.to_thread(_look, Folder(worker.config.output_dir, shard.batch), works):
        known = found[work.prompt.index]
        if isinstance(record, Result):
            await settle(work, record, known.retry_count)
        else:
            left.append(work if record else replace(work, known=known))
    return left


def _look(folder: Folder, works: list[Work]) -> list[tuple[Work, Result | StorageError | None]]:
    """The records that are there; what killed runs left of these prompts is deleted, for their lease is ours."""
    sweep(folder, {work.prompt.id for work in works}.__contains__)
    return [(work, _record(work)) for work in works]


def _record(work: Work) -> Result | StorageError | None:
    try:
        return read_record(work)
    except StorageError as error:
        return error


async def predict_while(worker: Context, shard: Shard, works: list[Work], standing: Standing) -> bool:
    """Run all prompts at once, or end them if the batch is canceled; stop them when that changes.

    False when others should go first.
    """
    async with asyncio.TaskGroup() as group:
        prompts = {group.create_task(predict(work, canceled=standing == "canceled")): work for work in works}
        watch = group.create_task(stop_in_time(worker, shard, standing, prompts))
        await asyncio.wait(prompts)
        watch.cancel()
    return watch.cancelled() or watch.result()


async def stop_in_time(
    worker: Context, shard: Shard, standing: Standing, prompts: dict[asyncio.Task[None], Work]
) -> bool:
    """Cancel the prompts' tasks within a second or a poll pass of a change: canceled, retried, limited, deleted.

    Also when all they do is wait, for a paused model say, and others need this one's slot: then False.
    """
    pace = max(worker.config.poll_interval, 1.0)
    score = max((work.score for work in prompts.values()), default=0.0)
    folder = Folder(worker.config.output_dir, shard.batch)
    with worker.folders.using(folder, shard.batch_id), worker.job_slots.hold(shard.job_id, score) as slot:
        while not slot.must_yield and await worker.batches.standing(shard.batch, shard.batch_id) == standing:
            await asyncio.sleep(pace)
            waits = {worker.waits.before_create(work.name) for one, work in prompts.items() if not one.done()}
            slot.note(frozenset() if "" in waits else frozenset(waits))
    for prompt, work in prompts.items():
        if prompt.cancel():
            worker.breaker.forgo(work.prompt.model, work.name)
    return not slot.must_yield
