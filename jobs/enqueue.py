"""A prompts file becomes a batch, or goes on one: checked, kept as the batch's own copy, put into the queue.

Every step may be repeated: the same command completes what a crash or a lost connection left undone.
"""

from __future__ import annotations

import asyncio
import shutil
from array import array
from dataclasses import dataclass, field, replace
from functools import partial

from pydantic import BaseModel
from redis.asyncio import Redis

from jobs.batches import Batches, Spent
from jobs.bitmap import Bits
from jobs.config import Config
from jobs.copy import Identity, kept_line, kept_row, locked, move, read_lines, replacing, storing
from jobs.errors import InputError, Problem, StorageError
from jobs.estimate import Estimate, estimate
from jobs.folder import Folder
from jobs.identity import check_identity, identify, limits, new_identity, note_limits
from jobs.key_names import KeyNames
from jobs.models import Batch
from jobs.prompts import Ids
from jobs.restoring import settle_recorded, spent_on_earlier_tries
from jobs.retry import retry
from jobs.shards import Receipt, enqueue_unsettled
from jobs.spool import SHOWN, Order, Spool, file_name, raise_problems, spooling
from jobs.spool import read_rows as read_file

__all__ = ["Checked", "Order", "Receipt", "check", "enqueue", "retry"]


class Checked(BaseModel):
    """How many prompts `enqueue` would take; costs and warnings as in a receipt, a sentence for each unpriced model."""

    total: int
    cost_at_least: float | None = None
    cost_at_most: float | None = None
    unpriced: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check(order: Order, config: Config) -> Checked:
    """Say what `enqueue` would take; touches neither Redis nor the disk. PromptsError, InputError."""
    order.check()
    if order.name or order.source != "-":
        _ = order.batch
    found, names = Estimate(config.prices), KeyNames()
    for row in read_file(order, config, Ids(), names):
        if order.limit is None or found.prompts < order.limit:
            found.add(row.model, row.line)
    found.demand_prices(order.budget, file_name(order))
    least, most = found.range(config.max_attempts) or (None, None)
    unpriced = tuple(found.unpriced()) if config.prices else ()
    warnings = tuple(names.warnings())
    return Checked(total=found.prompts, cost_at_least=least, cost_at_most=most, unpriced=unpriced, warnings=warnings)


async def enqueue(order: Order, config: Config, redis: Redis) -> Receipt:
    """Check the whole file, then enqueue what the batch does not have; PromptsError, InputError, StorageError."""
    order.check()
    folder = Folder(config.output_dir, order.batch)
    await identify(folder, config, redis)
    with spooling(order, folder) as spool:
        await _fill(spool, config)
        async with locked(folder):
            return await _enqueue(spool, folder, config, redis)


async def _fill(spool: Spool, config: Config) -> None:
    if spool.order.source == "-":
        spool.fill(config)  # not in a thread: nobody could interrupt its reading of a terminal
    else:
        await asyncio.to_thread(spool.fill, config)


async def _enqueue(spool: Spool, folder: Folder, config: Config, redis: Redis) -> Receipt:
    identity, batch = await identify(folder, config, redis)
    if batch and batch.cancel_requested:
        raise InputError(f"batch {batch.name!r} was canceled; `python -m jobs retry {batch.name}` takes it up again")
    merge = await asyncio.to_thread(_compare, spool, folder, batch)
    budget = spool.order.budget.over(limits(identity, batch))
    if budget.max_cost is not None:
        spool.demand_prices(budget)
        (await asyncio.to_thread(estimate, folder, config.prices)).demand_prices(budget, str(folder.prompts))
    identity = note_limits(folder, identity or new_identity(folder, config), budget, fsync=config.fsync)
    if merge.new:
        await asyncio.to_thread(_append, spool, folder, merge, config)
    before = await asyncio.to_thread(spent_on_earlier_tries, folder) if batch is None else Spent()
    batch = await _open(identity, merge, spool.order, before, folder, redis)
    await settle_recorded(Batches(redis), batch, folder)
    receipt = await enqueue_unsettled(redis, batch, folder, partial(Bits.count, indexes=merge.known), config)
    return receipt.model_copy(update={"warnings": spool.names.warnings()})


@dataclass
class _Merge:
    """What a file and a batch have in common: new ones by place in the file, known ones by index in the batch."""

    missing: bytearray
    known: array[int] = field(default_factory=lambda: array("L"))
    kept: int = 0
    generation: int = 0

    @property
    def new(self) -> int:
        return sum(self.missing)


def _compare(spool: Spool, folder: Folder, batch: Batch | None) -> _Merge:
    """PromptsError when the batch has an id with another model or input; StorageError when it lost rows."""
    merge = _Merge(bytearray(b"\1") * len(spool))
    generation = batch.generation if batch else 0
    conflicts = 0
    problems: list[Problem] = []
    for index, line in enumerate(read_lines(folder)):
        merge.kept += 1
        if spool.repeats(index, line):
            merge.missing[index] = 0
            merge.known.append(index)
            continue
        row = kept_row(folder, index, line)
        generation = max(generation, row.generation)
        if (place := spool.find(row)) is None:
            continue
        merge.missing[place] = 0
        merge.known.append(index)
        if not spool.equals(place, row):
            conflicts += 1
            problems += [_conflict(spool, place, row.id, folder.batch)] if conflicts <= SHOWN else []
    raise_problems(spool.order, problems, conflicts)
    if batch and merge.kept < batch.total:
        raise StorageError(f"{folder.prompts} has {merge.kept} of {batch.total} prompts; restore it", folder.prompts)
    merge.generation = generation + 1 if merge.new and merge.kept else generation
    return merge


def _conflict(spool: Spool, place: int, prompt_id: str, batch: str) -> Problem:
    return Problem(
        spool.ids.line(place),
        f"batch {batch!r} has the id {prompt_id!r} already, with another model, input or spelling; "
        "give the row another id, or the file another --name",
    )


def _append(spool: Spool, folder: Folder, merge: _Merge, config: Config) -> None:
    """Write the copy with the new rows in it; that of a new batch is the spool itself."""
    if not merge.kept:
        with storing(folder.prompts):
            move(spool.path, folder.prompts, fsync=config.fsync)
        return
    with replacing(folder.prompts, fsync=config.fsync) as file:
        with folder.prompts.open("rb") as kept:
            shutil.copyfileobj(kept, file, 1 << 20)
        for text, missing in zip(spool.texts(), merge.missing, strict=True):
            if missing:
                file.write(kept_line(text, merge.generation))


async def _open(identity: Identity, merge: _Merge, order: Order, before: Spent, folder: Folder, redis: Redis) -> Batch:
    batches = Batches(redis)
    new = Batch(
        name=identity.batch,
        id=identity.id,
        realm=identity.realm,
        created_at=identity.created_at,
        total=0,
        generation=merge.generation,
        priority=order.priority,
        predictions=before.predictions,
        cost=before.cost or 0,
        max_predictions=identity.max_predictions,
        max_cost=identity.max_cost,
        max_in_flight=identity.max_in_flight,
    )
    batch = await batches.open(new)
    check_identity(folder, identity, batch)
    limits = order.budget
    await batches.set_budget(batch.name, limits.max_predictions, limits.max_cost, limits.max_in_flight)
    if merge.generation > batch.generation:
        await batches.reopen(batch.name, merge.generation)
    return replace(batch, total=merge.kept + merge.new, priority=order.priority)
