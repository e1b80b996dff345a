"""Whether folder, results and Redis agree on a batch. Nothing is changed.

Workers and producers go on while the parts are read one after the other; so what disagrees is compared twice, and
only what has not changed is a disagreement.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import BinaryIO

from jobs.batch_folder.folder import LOCK, Folder
from jobs.config import Config
from jobs.errors import BatchNotFound, ForeignFolder, NothingEnqueued
from jobs.queue.dead_letters import describe_dead_letters
from jobs.redis_client.client import opened
from jobs.state.snapshot import Snapshot, take_snapshot
from jobs.verify.disagreements import MOVE, RECOUNT, Disagreement, Verification
from jobs.verify.folder import foreign_folders, missing_pages, unfinished_files
from jobs.verify.inspection import Inspection, TooMany, predictions_of, prompts_in
from jobs.verify.redis import batch_faults, ledger_faults, outcome_faults, spending_faults
from jobs.wire import Prompt

RECHECK_SECONDS = 1.5
"""Seconds before the second comparison: enough for a worker to settle what it has committed."""

PRODUCER_PATIENCE = 5.0

Progress = Callable[[str], None]


def verify(
    name: str, config: Config, *, read: bool = True, recheck: float = RECHECK_SECONDS, progress: Progress | None = None
) -> Verification:
    """Compare all that is known of a batch; `read`: also the bytes of its files. BatchNotFound, RedisUnreachable.

    What disagrees is compared once more, `recheck` seconds later. `progress` is called with a sentence now and then.

    It blocks for as long as it takes; from asyncio, call it in a thread.
    """
    folder = Folder(config.output_dir, name)
    first = _compare(folder, config, lambda _: read, progress)
    if first.agrees:
        return first
    time.sleep(recheck)
    suspects = {one.prompt for one in first.disagreements}
    second = _compare(folder, config, lambda prompt: read and prompt in suspects, progress)
    known = set(first.disagreements)
    kept = tuple(one for one in second.disagreements if one in known)
    return second.model_copy(update={"disagreements": kept, "unread": first.unread})


def _compare(folder: Folder, config: Config, read: Callable[[str], bool], progress: Progress | None) -> Verification:
    with _between_producers(folder):
        snapshot, trouble = _read_redis(folder, config)
        if snapshot is None and not trouble and not folder.manifest.exists():
            raise BatchNotFound(f"neither Redis nor {folder.path} has a batch {folder.batch!r}")
        rows = folder.prompts.open("rb") if folder.prompts.exists() else None
    with rows or io.BytesIO() as lines, closing(Inspection(folder, snapshot, read)) as inspection:
        cut_short = False
        try:
            if trouble:
                inspection.report(trouble)
            if rows is None:
                cure = "restore it, or set BATCH_OUTPUT_DIR as it was"
                inspection.report(Disagreement(what=f"{folder.prompts} is missing", cure=cure))
            else:  # without it, everything would seem out of place
                inspection.inspect_all(lines, progress or (lambda _: None))
                for fault in _batch_disagreements(inspection, lines):
                    inspection.report(fault)
        except TooMany:
            cut_short = True
    return Verification(
        batch=folder.batch,
        in_redis=snapshot is not None,
        finished=inspection.finished,
        cut_short=cut_short,
        disagreements=tuple(inspection.found),
        notes=tuple(_notes(inspection)),
        **inspection.counts,
    )


def _read_redis(folder: Folder, config: Config) -> tuple[Snapshot | None, Disagreement | None]:
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
        async with opened(config, start=False) as redis:
            return await take_snapshot(redis, name)
    return None


@contextmanager
def _between_producers(folder: Folder) -> Iterator[None]:
    """Wait up to five seconds for enqueue and retry, which change the copy and Redis in turn, and keep them out."""
    path = folder.path / LOCK
    with path.open("rb") if path.exists() else io.BytesIO() as lock:
        deadline = time.monotonic() + PRODUCER_PATIENCE
        while path.exists() and time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # a file system without locks: nobody holds one
                break
            else:
                break
        yield


def _notes(inspection: Inspection) -> Iterator[str]:
    snapshot = inspection.snapshot
    if snapshot is None:
        yield "Redis does not know this batch (forgotten, expired or wiped): only its folder was checked."
        if left := inspection.counts["prompts"] - inspection.counts["results"]:
            yield f"{left} prompts have no record; enqueuing the same prompts again completes them."
    elif not inspection.finished:
        yield "The batch is not finished: results.jsonl, errors.jsonl and the gallery were not checked."
    if snapshot and snapshot.dead:
        yield f"{describe_dead_letters(inspection.folder.batch, snapshot.dead, snapshot.batch.total)}."


def _batch_disagreements(inspection: Inspection, rows: BinaryIO) -> Iterator[Disagreement]:
    """Check counters, queue, ledger and what else is in the folder; `rows` is the open copy."""
    yield from _redis_disagreements(inspection)
    for what in foreign_folders(inspection.folder, inspection.ids):
        yield Disagreement(what=what, cure=MOVE)
    for what in (*_repeated_ids(inspection, rows), *_repeated_predictions(inspection, rows)):
        yield Disagreement(what=what)
    if inspection.finished:
        yield from _finished_disagreements(inspection)


def _redis_disagreements(inspection: Inspection) -> Iterator[Disagreement]:
    snapshot, rows = inspection.snapshot, inspection.counts["prompts"]
    if snapshot is None:
        return
    for what in (
        *batch_faults(snapshot, rows),
        *ledger_faults(snapshot, rows),
        *spending_faults(snapshot, inspection.spent),
    ):
        yield Disagreement(what=what, cure=RECOUNT)
    if inspection.waiting:
        yield from inspection.waiting.faults()
    if inspection.finished:
        yield from (Disagreement(what=what, cure=RECOUNT) for what in outcome_faults(snapshot, inspection.outcomes))


def _finished_disagreements(inspection: Inspection) -> Iterator[Disagreement]:
    folder, name = inspection.folder, inspection.folder.batch
    for what in (*inspection.results.faults(), *inspection.errors.faults()):
        yield Disagreement(what=what, cure=f"`python -m jobs results {name}`")
    for what in missing_pages(folder, inspection.counts["prompts"]):
        yield Disagreement(what=what, cure=f"`python -m jobs gallery {name}`")
    for what in unfinished_files(folder):
        yield Disagreement(what=what, cure="remove it")


def _repeated_ids(inspection: Inspection, rows: BinaryIO) -> Iterator[str]:
    lines: dict[str, list[str]] = {}
    for prompt in _prompts_at(rows, inspection.ids.repeated()):
        lines.setdefault(prompt.id.lower(), []).append(str(prompt.index + 1))
    for prompt_id, places in lines.items():
        if len(places) > 1:
            yield f"prompts.jsonl has the id {prompt_id} in lines {' and '.join(places)}"


def _repeated_predictions(inspection: Inspection, rows: BinaryIO) -> Iterator[str]:
    users: dict[str, dict[str, None]] = {}
    for prompt in _prompts_at(rows, inspection.predictions.repeated()):
        for prediction in predictions_of(prompt, inspection.record_of(prompt), inspection.snapshot):
            users.setdefault(prediction, {})[prompt.id] = None
    for prediction, ids in users.items():
        if len(ids) > 1:
            yield f"prediction {prediction} serves {' and '.join(ids)}"


def _prompts_at(rows: BinaryIO, indexes: set[int]) -> Iterator[Prompt]:
    for prompt in prompts_in(rows) if indexes else ():
        if isinstance(prompt, Prompt) and prompt.index in indexes:
            yield prompt
