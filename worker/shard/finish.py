"""The end of a batch: after its last prompt is settled, write its results and its gallery, and finish it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from arq.worker import RetryJob
from redis.exceptions import RedisError

from jobs.batch_folder.atomic_files import part_files
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery import PAGE_SIZE, write_gallery
from jobs.batch_folder.lock import locked
from jobs.batch_folder.results import writing_results
from jobs.batch_folder.rows.merge import merge_rows
from jobs.batch_folder.rows.row import Row
from jobs.batch_folder.rows.segment import unfinished_segments
from jobs.errors import StorageError
from jobs.events.event import Event, keep_events
from jobs.events.log import read, record
from jobs.notify.summary import FailureTally, finished_event
from jobs.wire import Batch, Shard
from worker.background import finish_despite_cancel
from worker.context import Context
from worker.outputs.folder_health import is_of_one_folder, sweep

logger = logging.getLogger(__name__)
WRITTEN = (".results.jsonl.", ".errors.jsonl.", ".index")
"""Prefixes of the part files that are written here; the others belong to a producer."""


async def finish_batch(worker: Context, shard: Shard, score: float = 0.0) -> None:
    """Finish the batch if all its prompts are settled; safe to repeat.

    Writing is retried until it succeeds; RetryJob when another shard needs the slot meanwhile.
    """
    path = Folder(worker.config.output_dir, shard.batch).path
    with worker.folders.saving(path), worker.job_slots.hold(shard.job_id, score) as slot:
        while (batch := await worker.batches.find(shard.batch)) and batch.id == shard.batch_id and _is_complete(batch):
            if slot.must_yield:
                worker.job_slots.defer(shard.job_id)
                raise RetryJob
            try:
                await _try_to_finish(worker, batch)
            except (StorageError, OSError) as error:
                logger.warning("! %s: its results cannot be written, will be retried: %s", batch.name, error)
                worker.folders.failed(path, str(error), alone=is_of_one_folder(error))
                slot.note(frozenset({f"folder {shard.batch}"}))
                await asyncio.sleep(worker.timing.folder_retry)


async def finish_left_over(worker: Context, before: set[str]) -> set[str]:
    """Finish batches whose last job was lost: those complete batches that the last call returned, too.

    Uploads of finished batches that were not deleted are deleted now.
    """
    names = await worker.batches.names()
    found = [batch for name in names if (batch := await worker.batches.find(name))]
    known = [batch for batch in found if batch.api_host == worker.config.api_host]
    for batch in known:
        if batch.finished_at:
            worker.uploads.deletion.note(batch)
    complete = [batch for batch in known if _is_complete(batch)]
    for batch in complete:
        if batch.id in before:
            with suppress(StorageError, OSError):  # not reported: this worker may not see the folder
                await _try_to_finish(worker, batch)
    return {batch.id for batch in complete}


def _is_complete(batch: Batch) -> bool:
    return not batch.finished_at and 0 < batch.total <= batch.settled


async def _try_to_finish(worker: Context, batch: Batch) -> None:
    """Write the results and finish the batch, unless another worker did while this one waited for the lock."""
    folder = Folder(worker.config.output_dir, batch.name)
    await asyncio.to_thread(folder.check, batch.id)
    async with locked(folder, create=False):
        now = await worker.batches.find(batch.name)
        if now and now.id == batch.id and not now.finished_at:
            tally = await _write_in_thread(folder, batch.id, fsync=worker.config.fsync)
            at = time.time()
            announce = worker.notifier.post_if_finished(finished_event(now, folder, tally, at), now.name, at)
            if await worker.batches.finish(batch.name, at, announce):
                worker.notifier.wake.set()
                _log_finished(now, folder)
                worker.uploads.deletion.note(now)
                await _close_log(worker, now, folder)


async def _close_log(worker: Context, batch: Batch, folder: Folder) -> None:
    """Record the end, and keep all events in the folder, for when Redis forgets them."""
    counts = f"{batch.succeeded:,} succeeded, {batch.failed:,} failed, {batch.canceled:,} canceled"
    await record(worker.redis, batch.name, Event(event="finished", message=counts))
    try:
        found = await read(worker.redis, batch.name)
        await asyncio.to_thread(keep_events, folder, found, fsync=worker.config.fsync)
    except (StorageError, RedisError) as error:
        logger.info("%s: its events cannot be kept: %s", batch.name, error)


def _log_finished(batch: Batch, folder: Folder) -> None:
    logger.info(
        "● %s is finished: %d succeeded, %d failed, %d canceled; %s",
        batch.name,
        batch.succeeded,
        batch.failed,
        batch.canceled,
        folder.gallery.absolute(),
        extra={"event": "batch_finished", "batch": batch.name},
    )


async def _write_in_thread(folder: Folder, batch_id: str, *, fsync: bool) -> FailureTally:
    """Write in a thread, which may take minutes; a cancel stops the thread before the lock is released."""
    stop = threading.Event()
    writing = asyncio.ensure_future(asyncio.to_thread(_write, folder, batch_id, stop, fsync=fsync))
    return await finish_despite_cancel(writing, on_cancel=stop.set)


def _write(folder: Folder, batch_id: str, stop: threading.Event, *, fsync: bool) -> FailureTally:
    tally = FailureTally()
    with suppress(_Stopped):
        with writing_results(folder, merge_rows(folder, with_html=True), fsync=fsync) as rows:
            write_gallery(folder, _watched(rows, folder, batch_id, stop, tally), fsync=fsync)
        sweep(folder, lambda prompt_id: folder.prompt(prompt_id).exists())
        parts = [part for part in part_files(folder.path) if part.startswith(WRITTEN)]
        for part in (*parts, *unfinished_segments(folder)):
            (folder.path / part).unlink(missing_ok=True)  # left by a worker that was killed
    return tally


class _Stopped(Exception):
    """The finish was cancelled."""


def _watched(
    rows: Iterable[Row], folder: Folder, batch_id: str, stop: threading.Event, tally: FailureTally
) -> Iterator[Row]:
    """Yield the rows and count them, and check once a page that the folder is still the batch's; _Stopped."""
    for number, row in enumerate(rows):
        if stop.is_set():
            raise _Stopped
        if number % PAGE_SIZE == 0:
            folder.check(batch_id)
        if row.status == "failed":
            tally.count(row.kind, row.message)
        yield row
