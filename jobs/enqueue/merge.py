"""What a prompts file and the batch that it is enqueued to have in common: known rows, new ones, corrected ones."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import Manifest
from jobs.batch_folder.prompts_copy import kept_row, read_lines
from jobs.enqueue.checked_rows import SHOWN
from jobs.enqueue.order import Order
from jobs.enqueue.spool import Spool
from jobs.errors import InputError, Problem, PromptsError, StorageError
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits
from jobs.wire import SHARD_SIZE, Batch


@dataclass
class Merge:
    """New rows by place in the file, known ones by index in the batch.

    `changed` are known ones with other contents now, or whose replacement was cut short: index → place and id.
    """

    missing: bytearray
    known: array[int] = field(default_factory=lambda: array("L"))
    kept: int = 0
    generation: int = 0
    changed: dict[int, tuple[int, str]] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """How many rows the batch does not have."""
        return sum(self.missing)


def compare(spool: Spool, folder: Folder, batch: Batch | None, failed: Bits) -> Merge:
    """Find each row of the batch in the file; compare `failed` ones in full. StorageError when the copy lost rows."""
    merge = Merge(bytearray(b"\1") * len(spool))
    generation = batch.generation if batch else 0
    for index, line in enumerate(read_lines(folder)):
        merge.kept += 1
        if spool.is_same_line(index, line) and index not in failed:
            merge.missing[index] = 0
            merge.known.append(index)
            continue
        row = kept_row(folder, index, line)
        generation = max(generation, row.generation)
        if (place := spool.find(row)) is None:
            continue
        merge.missing[place] = 0
        merge.known.append(index)
        same = spool.is_kept(place, row) if index in failed else spool.is_same_row(place, row)
        if not same or (index in failed and not folder.prompt(row.id).exists()):
            merge.changed[index] = place, row.id
    if batch and merge.kept < batch.total:
        raise StorageError(f"{folder.prompts} has {merge.kept} of {batch.total} prompts; restore it", folder.prompts)
    merge.generation = generation + 1 if merge.new and merge.kept else generation
    return merge


def refuse_other_file(order: Order, manifest: Manifest | None, merge: Merge) -> None:
    """InputError when a file would add to a batch that was enqueued from another one."""
    if order.append or order.path is None or manifest is None or manifest.source is None:
        return
    same = order.path == manifest.source or os.path.realpath(order.path) == os.path.realpath(manifest.source)
    if not same and (merge.new or merge.changed):
        raise InputError(
            f"batch {manifest.batch!r} was enqueued from {manifest.source}, not from {order.path}, which has other "
            "rows: give another --name, or --append to add them to that batch; nothing was enqueued"
        )


async def check_changed(spool: Spool, folder: Folder, batch: Batch | None, merge: Merge, redis: Redis) -> None:
    """PromptsError for rows that the batch has with another model or input, and that may not be replaced."""
    if not merge.changed:
        return
    busy, settled, failed = set[int](), Bits(b""), Bits(b"")
    if batch:
        busy = await Queue(redis, batch.api_host).busy_shards(
            batch.name, (index // SHARD_SIZE for index in merge.changed)
        )
        settled, failed = await Batches(redis).settled(batch.name), await Batches(redis).unsuccessful(batch.name)
    problems: list[Problem] = []
    count = 0
    for index, (place, prompt_id) in merge.changed.items():
        waits = batch and (index // SHARD_SIZE in busy or index not in settled)
        succeeded = index in settled and index not in failed if batch else _has_succeeded(folder, prompt_id)
        if reason := _refusal(spool, place, prompt_id, folder.batch, waits=bool(waits), succeeded=succeeded):
            count += 1
            problems += [Problem(spool.line(place), reason)] if count <= SHOWN else []
    if count:
        raise PromptsError(spool.order.file_name, problems, count)


def _has_succeeded(folder: Folder, prompt_id: str) -> bool:
    record = folder.read_record(prompt_id)
    return record is not None and record.status == "succeeded"


def _refusal(spool: Spool, place: int, prompt_id: str, batch: str, *, waits: bool, succeeded: bool) -> str | None:
    """Why a row may not take the place of the batch's row of that id, if anything."""
    has = f"batch {batch!r} has the id {prompt_id!r} already, with another model, input or spelling"
    other = "give the row another id, or the file another --name"
    if not spool.order.replace:
        return f"{has}; {other}, or add --replace: it takes corrected rows whose prompts did not succeed"
    if succeeded or not spool.text(place).startswith(b'{"id":"%s",' % prompt_id.encode()):
        return f"{has}{', and its result' if succeeded else ''}; {other}"
    if waits:
        return f"{has}, and its shard is at work: `python -m jobs cancel {batch}`, then the same command"
    return None
