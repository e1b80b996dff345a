"""Whether folder, results and Redis agree on a batch. Nothing is changed.

While workers and producers go on, the parts are read one after the other; so whatever does not agree is looked at
twice, and only what has stayed so is a disagreement.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from jobs.batch_folder.folder import LOCK, Folder
from jobs.config import Config
from jobs.errors import BatchNotFound, ForeignFolder, NothingEnqueued
from jobs.queue.dead_letters import sentence
from jobs.redis_client.client import opened
from jobs.state.snapshot import Snapshot, take_snapshot
from jobs.verify.batch import batch_disagreements
from jobs.verify.disagreements import RECOUNT, Disagreement, Verification
from jobs.verify.inspection import Enough, Inspection

AGAIN = 1.5
"""Seconds before the second look: a worker settles what it has committed well within them."""

PRODUCER_PATIENCE = 5.0


def verify(name: str, config: Config, *, read: bool = True) -> Verification:
    """Compare all that is known of a batch; `read`: also the bytes of its files. BatchNotFound, RedisUnreachable.

    It blocks for as long as it takes; from asyncio, call it in a thread.
    """
    folder = Folder(config.output_dir, name)
    first = _look(folder, config, lambda _: read)
    if first.agrees:
        return first
    time.sleep(AGAIN)
    suspects = {one.prompt for one in first.disagreements}
    second = _look(folder, config, lambda prompt: read and prompt in suspects)
    known = set(first.disagreements)
    kept = tuple(one for one in second.disagreements if one in known)
    return second.model_copy(update={"disagreements": kept, "unread": first.unread})


def _look(folder: Folder, config: Config, read: Callable[[str], bool]) -> Verification:
    with _between_producers(folder):
        snapshot, trouble = _asked(folder, config)
        if snapshot is None and not trouble and not folder.manifest.exists():
            raise BatchNotFound(f"neither Redis nor {folder.path} has a batch {folder.batch!r}")
        rows = folder.prompts.open("rb") if folder.prompts.exists() else None
    with rows or io.BytesIO() as lines, closing(Inspection(folder, snapshot, read)) as seen:
        cut_short = False
        try:
            if trouble:
                seen.blame(trouble)
            if rows is None:
                cure = "restore it, or set BATCH_OUTPUT_DIR as it was"
                seen.blame(Disagreement(what=f"{folder.prompts} is missing", cure=cure))
            else:  # without it, everything would seem to be in the wrong place
                seen.see_all(lines)
                for fault in batch_disagreements(seen, lines):
                    seen.blame(fault)
        except Enough:
            cut_short = True
    return Verification(
        batch=folder.batch,
        in_redis=snapshot is not None,
        finished=seen.finished,
        cut_short=cut_short,
        disagreements=tuple(seen.found),
        notes=tuple(_notes(seen)),
        **seen.counts,
    )


def _asked(folder: Folder, config: Config) -> tuple[Snapshot | None, Disagreement | None]:
    """What Redis knows of the folder's batch; and, if it is another's or not readable, a disagreement."""
    try:
        found = asyncio.run(_snapshot(folder.batch, config))
    except (KeyError, ValueError) as error:
        return None, Disagreement(what=f"what Redis has of the batch is not readable ({error!r})", cure=RECOUNT)
    try:
        manifest = folder.batch_id()
    except ForeignFolder as error:
        return found, Disagreement(what=str(error), cure="restore it")
    if not found or manifest == found.batch.id:
        return found, None
    cure = "set BATCH_OUTPUT_DIR as it was when the batch was enqueued, or restore batch.json"
    if manifest is None:
        return found, Disagreement(
            what=f"Redis knows the batch, and {folder.manifest.absolute()} is missing", cure=cure
        )
    what = f"Redis knows another batch of this name than {folder.manifest.absolute()}"
    return None, Disagreement(what=what, cure=cure)


async def _snapshot(name: str, config: Config) -> Snapshot | None:
    with suppress(NothingEnqueued):
        async with opened(config, begin=False) as redis:
            return await take_snapshot(redis, name)
    return None


@contextmanager
def _between_producers(folder: Folder) -> Iterator[None]:
    """Keep off enqueue and retry, which change the copy and Redis in turn, if they let us within five seconds."""
    path = folder.path / LOCK
    with path.open("rb") if path.exists() else io.BytesIO() as lock:
        deadline = time.monotonic() + PRODUCER_PATIENCE
        while path.exists() and time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # the file system keeps no locks, so that nobody holds one
                break
            else:
                break
        yield


def _notes(seen: Inspection) -> Iterator[str]:
    snapshot = seen.snapshot
    if snapshot is None:
        yield "Redis does not know this batch (forgotten, expired or wiped): only its folder was looked at."
        if left := seen.counts["prompts"] - seen.counts["results"]:
            yield f"{left} prompts have no record; enqueuing the same prompts again goes on with them."
    elif not seen.finished:
        yield "The batch is not finished: results.jsonl, errors.jsonl and the gallery were not looked at."
    if snapshot and snapshot.dead:
        yield f"{sentence(seen.folder.batch, snapshot.dead, snapshot.batch.total)}."
