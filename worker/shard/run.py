"""One arq job: runs a shard until its last prompt is settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from arq.worker import RetryJob

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.rows.segment import keep_shard
from jobs.errors import ForeignFolder, StorageError
from jobs.events import log
from jobs.events.event import Event
from jobs.queue.payload import JobId, Parcel, PayloadError, unpack
from jobs.redis_client.requirements import lasting_refusal
from jobs.state.batches import AT_WORK, Standing
from jobs.state.pending import read_pending
from jobs.state.release import release_prompts
from jobs.wire import Result, Shard
from worker.context import Context, Work
from worker.leases import lease_name
from worker.outputs.folder_health import sweep, write_problem
from worker.prompt.predict import BATCH_CANCELED, CANCELED_BY_HAND, predict, settle
from worker.prompt.retry_policy import SOON
from worker.prompt.save import read_record
from worker.shard.finish import finish_batch
from worker.shard.price_cards import load_cards
from worker.shard.run_log import announce_dead_letter, dead_letter, record_run

logger = logging.getLogger(__name__)


async def predict_shard(ctx: dict[str, Any], parcel: Parcel) -> None:
    """Run a shard under its lease until every prompt has its result: the one function of arq's worker.

    Raises only CancelledError and RetryJob: on anything else arq would drop the shard for good.
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
    except Exception as error:  # the shard must stay in the queue
        if refusal := lasting_refusal(error):
            worker.job_slots.request_stop(refusal)
        else:
            logger.exception("! %s: ended unexpectedly, will be retried", job_id)
        await worker.leases.sleep(SOON.delay(ctx["job_try"], worker.timing.jitter))
        raise RetryJob from error
    if worker.leases.stopping.is_set():
        raise RetryJob


async def run_job(worker: Context, job_id: str, parcel: Parcel, score: float = 0.0) -> None:
    """Run the job and record the run; a dead letter is not run, and a payload that cannot be read becomes one."""
    try:
        job = JobId.parse(job_id)
    except PayloadError as error:
        logger.error("! dropped from the queue: %s", error)  # noqa: TRY400 - it is not ours
        return None
    async with record_run(worker, job) as reason:
        if reason:
            await announce_dead_letter(worker, job, reason)
            return await release_shard(worker, parcel, job_id)
        try:
            shard = await asyncio.to_thread(unpack, parcel.payload, job_id)
        except PayloadError as error:
            return await dead_letter(worker, job, str(error))
        await run_shard(worker, shard, score)
    return None


async def release_shard(worker: Context, parcel: Parcel, job_id: str) -> None:
    """Release what the prompts of a dead letter hold, as nobody polls their predictions any more."""
    try:
        shard = await asyncio.to_thread(unpack, parcel.payload, job_id)
    except PayloadError as error:
        logger.debug("%s: nothing to release: %s", job_id, error)
        return
    works = [Work(worker, shard, prompt) for prompt in shard.prompts]
    await release_prompts(worker.redis, worker.config.api_host, [work.name for work in works])
    await asyncio.gather(*(worker.batch_limiter.release(shard, prompt.index) for prompt in shard.prompts))


async def run_shard(worker: Context, shard: Shard, score: float = 0.0) -> None:
    """Run the prompts until all have results, even if the batch is canceled, paused, retried or limited meanwhile.

    RetryJob when a newer batch has this name: the job in the queue belongs to that one; also once nothing of a paused
    batch runs here any more.
    """
    folder = Folder(worker.config.output_dir, shard.batch)
    while (standing := await worker.batches.standing(shard.batch, shard.batch_id)) in AT_WORK:
        if not await find_folder(worker, shard, folder):
            worker.job_slots.skip_batch(shard.batch)
            raise RetryJob
        if standing != "canceled" and not await wait_until_writable(worker, shard, folder, score, standing):
            continue
        works = await load_works(worker, shard, score, standing)
        if not works:
            await keep_rows(shard, folder)
            return await finish_batch(worker, shard, score)
        logger.info(
            "→ %r%s",
            shard,
            f", {len(works)} to do" if len(works) < len(shard.prompts) else "",
            extra={"event": "shard_started", "batch": shard.batch},
        )
        if not await predict_until_change(worker, shard, works, standing):
            logger.debug("%s: all its prompts wait; other shards go first", shard.job_id)
            worker.job_slots.defer(shard.job_id)
            raise RetryJob
    logger.warning("! %s: its batch was deleted; dropped", shard.job_id)
    if standing == "replaced":
        await worker.leases.sleep(1.0)
        raise RetryJob
    return None


async def keep_rows(shard: Shard, folder: Folder) -> None:
    """Keep what the end of the batch needs of the shard's prompts; without it, it reads their records again."""
    try:
        await asyncio.to_thread(keep_shard, folder, shard)
    except (StorageError, OSError) as error:
        logger.debug("%s: its segment cannot be written: %s", shard.job_id, error)


async def find_folder(worker: Context, shard: Shard, folder: Folder) -> bool:
    """Whether this worker sees the batch's folder; if it never did, the batch is skipped and `status` says why."""
    if shard.batch_id in worker.folders.seen:
        return True
    try:
        found = await asyncio.to_thread(folder.batch_id)
    except ForeignFolder:  # it is there, but cannot be read
        return True
    if found == shard.batch_id:
        worker.folders.seen.add(shard.batch_id)
        worker.folders.unseen.discard(shard.batch_id)
        worker.job_slots.resume_batch(shard.batch)
        await log.record(worker.redis, shard.batch, log.started(worker.leases.owner))
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
        logger.error("! %s is skipped: %s", shard.batch, reason, extra={"event": "batch_skipped", "batch": shard.batch})
        await log.record(worker.redis, shard.batch, Event(event="warning", message=reason))
    worker.waits.note(shard.batch, reason)
    return False


async def wait_until_writable(worker: Context, shard: Shard, folder: Folder, score: float, standing: Standing) -> bool:
    """True if the folder is writable; otherwise wait for it, then False. RetryJob when another shard needs the slot."""
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
            await asyncio.sleep(worker.timing.folder_retry)
            reason = await asyncio.to_thread(write_problem, folder, shard.batch_id)
    return False


async def load_works(worker: Context, shard: Shard, score: float = 0.0, standing: Standing = "open") -> list[Work]:
    """The prompts without a result; one with a record on disk is settled from that, without a request."""
    found = await read_pending(worker.redis, shard.batch, [prompt.index for prompt in shard.prompts])
    prompts = [prompt for prompt in shard.prompts if prompt.index in found]
    cards = await asyncio.to_thread(load_cards, Folder(worker.config.output_dir, shard.batch))
    limited, paused = standing in ("limited", "paused"), standing == "paused"
    works = [
        Work(worker, shard, prompt, score=score, limited=limited, paused=paused, cards=cards) for prompt in prompts
    ]
    left = []
    for work, record in await asyncio.to_thread(_read_records, Folder(worker.config.output_dir, shard.batch), works):
        known = found[work.prompt.index]
        if isinstance(record, Result):
            await settle(work, record, known.retry_count)
        else:
            left.append(work if record else replace(work, known=known))
    return left


def _read_records(folder: Folder, works: list[Work]) -> list[tuple[Work, Result | StorageError | None]]:
    """Read the records on disk, and delete what killed runs left of these prompts, which our lease allows."""
    sweep(folder, {work.prompt.id for work in works}.__contains__)
    return [(work, _try_to_read(work)) for work in works]


def _try_to_read(work: Work) -> Result | StorageError | None:
    try:
        return read_record(work)
    except StorageError as error:
        return error


async def predict_until_change(worker: Context, shard: Shard, works: list[Work], standing: Standing) -> bool:
    """Run all prompts at once, or cancel them if the batch is canceled, until its standing changes.

    Those that are marked are canceled, too. False when other shards should go first.
    """
    if standing == "paused":
        worker.job_slots.skip_paused(shard.batch, shard.batch_id)
    marked = await worker.batches.to_cancel(shard.batch, shard.number)
    async with asyncio.TaskGroup() as group:
        prompts = {group.create_task(predict_or_cancel(work, standing, marked)): work for work in works}
        watch = group.create_task(watch_batch(worker, shard, standing, prompts, marked))
        await asyncio.wait(prompts)
        watch.cancel()
    return watch.cancelled() or watch.result()


def cancel_reason(work: Work, standing: Standing, marked: Collection[int]) -> str | None:
    """Why a prompt is to be canceled; None when it is to be run."""
    if standing == "canceled":
        return BATCH_CANCELED
    return CANCELED_BY_HAND if work.prompt.index in marked else None


async def predict_or_cancel(work: Work, standing: Standing, marked: Collection[int]) -> None:
    """Run a prompt, or cancel it: also when it is marked, and its task cancelled, while it runs."""
    if reason := cancel_reason(work, standing, marked):
        return await predict(work, canceled=reason)
    try:
        return await predict(work)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if work.prompt.index not in marked or (task and task.uncancel()):
            raise  # somebody else ends the task
    return await predict(replace(work, known=None), canceled=CANCELED_BY_HAND)


async def watch_batch(
    worker: Context,
    shard: Shard,
    standing: Standing,
    prompts: dict[asyncio.Task[None], Work],
    marked: set[int],
) -> bool:
    """Cancel the prompts' tasks within a second or a poll interval when the batch is canceled, paused or limited.

    Prompts that people cancel meanwhile are added to `marked`, and only their tasks are cancelled.
    Also, with False, when all of them wait for the batch to be resumed; or for something else, a paused model say, and
    another shard needs the slot.
    """
    pace = max(worker.config.poll_interval, 1.0)
    score = max((work.score for work in prompts.values()), default=0.0)
    folder = Folder(worker.config.output_dir, shard.batch)
    with worker.folders.using(folder, shard.batch_id), worker.job_slots.hold(shard.job_id, score) as slot:
        while not slot.must_yield and await worker.batches.standing(shard.batch, shard.batch_id) == standing:
            if standing != "canceled":
                new = await worker.batches.to_cancel(shard.batch, shard.number) - marked
                marked |= new
                cancel_tasks(worker, {task: work for task, work in prompts.items() if work.prompt.index in new})
            await asyncio.sleep(pace)
            waits = {worker.waits.reason_before_create(work.name) for one, work in prompts.items() if not one.done()}
            slot.note(frozenset() if "" in waits else frozenset(waits))
            slot.must_yield |= waits == {f"paused {shard.batch}"}
    cancel_tasks(worker, prompts)
    return not slot.must_yield


def cancel_tasks(worker: Context, prompts: Mapping[asyncio.Task[None], Work]) -> None:
    """Cancel the tasks of prompts, which let others probe their models then."""
    for task, work in prompts.items():
        if task.cancel():
            worker.breaker.give_up_probe(work.prompt.model, work.name)
