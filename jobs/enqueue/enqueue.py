"""A prompts file becomes a batch, or adds to one: checked, kept as the batch's own copy, put into the queue.

Every step may be repeated: the same command completes what a crash or a lost connection left undone.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import BaseModel

from jobs.batch_folder.atomic_files import move, replacing, storing
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.lock import locked
from jobs.batch_folder.manifest import Manifest
from jobs.batch_folder.prompts_copy import CopiedRow, kept_line, model_of
from jobs.catalog.catalog import Catalog
from jobs.catalog.models_file import check_pins, keep_models
from jobs.config import Config
from jobs.enqueue.checked_rows import CheckedRows
from jobs.enqueue.estimate import Confirm, Costs, Estimator
from jobs.enqueue.input_copies import copy_inputs
from jobs.enqueue.merge import Merge, check_changed, compare, refuse_other_file
from jobs.enqueue.order import Order
from jobs.enqueue.ownership import check_ownership, known_limits, new_manifest, read_ownership, save_limits
from jobs.enqueue.recovery import settle_recorded, spent_on_earlier_tries
from jobs.enqueue.retry import Retried, requeue, retry, spent_reason, start_generation
from jobs.enqueue.sharding import Receipt, enqueue_unsettled, record_receipt
from jobs.enqueue.spool import Progress, Spool, ignore_progress, spooling
from jobs.errors import InputError
from jobs.input_files.reference import references_in
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits, Spent
from jobs.wire import Batch

__all__ = ["Checked", "Order", "Progress", "Receipt", "check", "complete", "enqueue", "ignore_progress", "retry"]


class Checked(BaseModel):
    """How many prompts `enqueue` would take; costs, warnings and pinned versions as in a receipt.

    `rows`: how many rows of the file they were made of, when
    one may become many. `files` and `file_bytes`: the different local files that they name.
    """

    total: int
    rows: int | None = None
    files: int = 0
    file_bytes: int = 0
    cost_at_least: float | None = None
    cost_at_most: float | None = None
    cost_is_partial: bool = False
    unpriced: tuple[str, ...] = ()
    unpriced_models: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pinned: dict[str, str] = {}


async def check(order: Order, config: Config) -> Checked:
    """Say what `enqueue` would take; touches neither Redis nor the disk. PromptsError, InputError."""
    order.check()
    folder = Folder(config.output_dir, order.batch) if order.name or order.source != "-" else None
    async with Catalog.opened(config, folder, None) as catalog:
        estimator = Estimator.load(config, catalog)
        found = estimator.begin()
        rows, files = CheckedRows(order, config, catalog), dict[str, int]()
        async for chunk in rows.chunks():
            for row, _ in chunk[: None if order.limit is None else max(order.limit - found.prompts, 0)]:
                found.add(row.model, row.line, row.text)
                files.update((file.sha256, file.size) for file in references_in(row.text))
    found.demand_prices(order.budget, order.file_name)
    return Checked(
        total=found.prompts,
        rows=rows.names.rows or None,
        files=len(files),
        file_bytes=sum(files.values()),
        **(found.costs if estimator.prices else Costs()).facts(),
        unpriced=tuple(found.unpriced()) if estimator.prices else (),
        warnings=(*rows.warnings(), *estimator.prices.warnings(found.models)),
        pinned=catalog.pins,
    )


async def enqueue(
    order: Order, config: Config, redis: Redis, progress: Progress = ignore_progress, confirm: Confirm | None = None
) -> Receipt:
    """Check the whole file, then enqueue what the batch does not have, if `confirm` agrees to the costs.

    PromptsError, InputError, StorageError.
    """
    order.check()
    folder = Folder(config.output_dir, order.batch)
    await read_ownership(folder, config, redis)
    with spooling(order, folder) as spool:
        async with Catalog.opened(config, folder, redis) as catalog:
            rows = CheckedRows(order, config, catalog)
            spool.price_by(Estimator.load(config, catalog))
            await spool.fill(rows, progress, fsync=config.fsync)
        if confirm:
            await _ask(spool, folder, config, redis, confirm)
        made_of = f" made of {rows.names.rows:,} rows" if rows.names.rows else ""
        progress(f"enqueuing {len(spool):,} prompts{made_of}")
        async with locked(folder):
            receipt = await _enqueue(spool, folder, catalog, config, redis, progress)
        warnings = [*rows.warnings(), *spool.estimator.prices.warnings(spool.estimate.models)]
        return receipt.model_copy(update={"warnings": warnings, "pinned": catalog.pins})


async def complete(order: Order, config: Config, redis: Redis) -> Receipt:
    """Enqueue what a begun batch has in its own copy, of which a crash may have left a part; no other file is read.

    InputError, StorageError.
    """
    folder = Folder(config.output_dir, order.batch)
    await read_ownership(folder, config, redis)
    with spooling(order, folder) as no_rows:
        catalog = Catalog(config, folder, None)
        no_rows.price_by(Estimator.load(config, catalog))
        async with locked(folder):
            return await _enqueue(no_rows, folder, catalog, config, redis, ignore_progress)


async def _ask(spool: Spool, folder: Folder, config: Config, redis: Redis, confirm: Confirm) -> None:
    """Have the costs of what the batch has not done yet agreed to; without its lock, which workers need."""
    manifest, batch = await read_ownership(folder, config, redis)
    merge = await _merge(spool, folder, manifest, batch, redis)
    settled = await Batches(redis).settled(batch.name) if batch else Bits(b"")
    left = await asyncio.to_thread(
        spool.estimator.estimate, folder, lambda index: index not in settled and index not in merge.changed
    )
    again = {place for place, _ in merge.changed.values()}
    for place, text in enumerate(spool.texts()):
        if merge.missing[place] or place in again:
            left.add(model_of(text), spool.line(place), text)
    if left.prompts:
        confirm(left.costs)


async def _enqueue(
    spool: Spool, folder: Folder, catalog: Catalog, config: Config, redis: Redis, progress: Progress
) -> Receipt:
    manifest, batch = await read_ownership(folder, config, redis)
    check_pins(folder, catalog.models)
    merge = await _merge(spool, folder, manifest, batch, redis)
    budget = spool.order.budget.over(known_limits(manifest, batch))
    cheapest = 0
    if budget.max_cost is not None:
        spool.demand_prices(budget)
        known = await asyncio.to_thread(spool.estimator.estimate, folder)
        known.demand_prices(budget, str(folder.prompts))
        cheapest = known.cheapest
    if batch and merge.changed and batch.settled >= batch.total and (spent := spent_reason(batch, budget, cheapest)):
        raise InputError(spent)
    manifest = manifest or new_manifest(folder, config, spool.order.path)
    manifest = save_limits(folder, manifest, budget, keep_uploads=spool.order.keep_uploads, fsync=config.fsync)
    if spool.order.copy_inputs:
        await copy_inputs(spool, folder, progress, fsync=config.fsync)
    cards = spool.estimator.prices.all_cards(spool.estimate.models)
    await asyncio.to_thread(keep_models, folder, catalog.models, cards, fsync=config.fsync)
    again = await asyncio.to_thread(_write_copy, spool, folder, merge, batch, config)
    before = await asyncio.to_thread(spent_on_earlier_tries, folder) if batch is None else Spent()
    batch = await _open(manifest, merge, spool.order, before, folder, redis)
    await settle_recorded(Batches(redis), batch, folder)
    added = await requeue(redis, batch, folder, again)
    receipt = await enqueue_unsettled(redis, batch, folder, partial(Bits.count, indexes=merge.known), spool.estimator)
    more: dict[str, Any] = {"begun_from": manifest.source}
    more |= {"enqueued": receipt.enqueued + added.prompts, "shards": receipt.shards + added.shards}
    return await record_receipt(redis, receipt.model_copy(update=more), "enqueued")


async def _merge(spool: Spool, folder: Folder, manifest: Manifest | None, batch: Batch | None, redis: Redis) -> Merge:
    """What the file adds to the batch or changes in it; InputError, PromptsError when it may not."""
    replaces = spool.order.replace
    if batch and batch.cancel_requested and not replaces:
        raise InputError(f"batch {batch.name!r} was canceled; `python -m jobs retry {batch.name}` resumes it")
    failed = await Batches(redis).unsuccessful(batch.name) if batch and replaces else Bits(b"")
    merge = await asyncio.to_thread(compare, spool, folder, batch, failed)
    refuse_other_file(spool.order, manifest, merge)
    await check_changed(spool, folder, batch, merge, redis)
    return merge


def _write_copy(spool: Spool, folder: Folder, merge: Merge, batch: Batch | None, config: Config) -> Retried:
    """Update the batch's copy from the file; returns the replaced prompts, and how they had ended."""
    again: Retried = {}
    if merge.changed:

        def corrected(row: CopiedRow) -> bytes:
            return spool.text(merge.changed[row.index][0])

        again, generation = start_generation(folder, batch, merge.changed, (), corrected, fsync=config.fsync)
        merge.generation = generation + 1 if merge.new else generation
    if merge.new:
        _append(spool, folder, merge, config)
    return again


def _append(spool: Spool, folder: Folder, merge: Merge, config: Config) -> None:
    """Write the copy with the new rows; that of a new batch is the spool itself."""
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


async def _open(manifest: Manifest, merge: Merge, order: Order, before: Spent, folder: Folder, redis: Redis) -> Batch:
    batches = Batches(redis)
    new = Batch(
        name=manifest.batch,
        id=manifest.id,
        api_host=manifest.api_host,
        created_at=manifest.created_at,
        total=0,
        generation=merge.generation,
        priority=order.priority,
        predictions=before.predictions,
        cost=before.cost or 0,
        unpriced=before.unpriced,
        max_predictions=manifest.max_predictions,
        max_cost=manifest.max_cost,
        max_in_flight=manifest.max_in_flight,
    )
    batch = await batches.open(new)
    check_ownership(folder, manifest, batch)
    limits = order.budget
    await batches.set_budget(batch.name, limits.max_predictions, limits.max_cost, limits.max_in_flight)
    if merge.generation > batch.generation:
        await batches.reopen(batch.name, merge.generation)
    return replace(batch, total=merge.kept + merge.new, priority=order.priority)
