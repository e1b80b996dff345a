"""What a create waits for before it takes a slot: its batch's folder and budget, its model's limits, its place."""

from __future__ import annotations

import asyncio

from jobs.state.ledger import Entry, OverBudget
from jobs.state.waits import Kind
from worker.context import Work
from worker.leases import lease_name
from worker.prompt.cost import price
from worker.prompt.retry_policy import SOON

FOLDER_PAUSE = 1.0
"""Seconds between two looks whether the folder takes outputs again."""


async def admitted(work: Work, entry: Entry) -> Entry:
    """Return when the prompt may be paid for, holding nothing meanwhile; OverBudget when its batch has spent all.

    Then it has a place, if its batch limits them, until it is `released`; other ends leave that to its next run.
    """
    worker, model, waits = work.worker, work.prompt.model, work.worker.waits
    await _until_folder_is_well(work)
    entry = await _affordable(work, entry)
    with waits.on(work.name, "breaker", model):
        await worker.gate.admit(model, work.name)
    with waits.on(work.name, "refused", model):
        await worker.refused_rows.wait(work.shard, model, work.name, work.order)
    if work.limited:
        with waits.on(work.name, "batch limit"):
            await worker.places.acquire(work.shard, work.prompt.index, work.order)
    with waits.on(work.name, "model limit", model):
        await _first_of_its_model(work)
    return entry


async def attached(work: Work) -> None:
    """Count a prediction that runs already: it waits for no place, and others wait for its."""
    if work.limited:
        await work.worker.places.count(work.shard, work.prompt.index)


async def released(work: Work) -> None:
    """Give the prompt's place to another: nothing of it runs any more, unless another worker has the prompt by now."""
    if work.limited and work.worker.leases.is_valid(lease_name(work.shard.job_id)):
        await work.worker.places.release(work.shard, work.prompt.index)


def accepted(work: Work) -> None:
    """Its create was accepted: those that wait for the answer go on."""
    work.worker.refused_rows.note_created(work.shard, work.prompt.model)
    work.worker.refused_rows.leave(work.shard, work.prompt.model, work.name)


def left(work: Work) -> None:
    """Let others of its batch and of its model try: it tries no more."""
    work.worker.refused_rows.leave(work.shard, work.prompt.model, work.name)
    work.worker.gate.leave(work.prompt.model, work.name)


async def _first_of_its_model(work: Work) -> None:
    try:
        await work.worker.gate.line_up(work.prompt.model, work.name, work.order)
    except asyncio.CancelledError:
        await released(work)
        raise


async def _until_folder_is_well(work: Work) -> None:
    while reason := work.worker.folders.own_trouble(work.folder.path):
        work.worker.gate.forgo(work.prompt.model, work.name)  # another batch's prompt may probe its model
        with work.worker.waits.on(work.name, "folder", reason):
            await asyncio.sleep(FOLDER_PAUSE)


async def _affordable(work: Work, entry: Entry) -> Entry:
    tries = 0
    while work.shard.batch_id in work.worker.short_of_budget:
        try:
            await work.ledger.afford(price(work))
        except OverBudget as over:
            await work.worker.gate.record_outcome(
                work.prompt.model, work.name, "ignored"
            )  # another prompt may probe its model
            if over.verdict == "spent":
                raise
            if entry.ambiguous:  # it may have been paid: nothing of it comes back that others could wait for
                entry = await work.ledger.close(entry, entry.reserved, "unknown")
                continue
            kind: Kind = "price" if over.verdict == "unpriced" else "budget"
        else:
            work.worker.short_of_budget.discard(work.shard.batch_id)
            break
        tries += 1
        with work.worker.waits.on(work.name, kind, work.prompt.model if kind == "price" else ""):
            await asyncio.sleep(SOON.delay(tries))
    return entry
