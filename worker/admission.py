"""What a create waits for before it takes a slot: its batch's budget, its model's breaker and limits, its place."""

from __future__ import annotations

import asyncio

from jobs.ledger import Entry, OverBudget
from worker.context import Work
from worker.lease import lease_name
from worker.retry import SOON
from worker.spending import price


async def admitted(work: Work, entry: Entry) -> Entry:
    """Return when the prompt may be paid for, holding nothing meanwhile; OverBudget when its batch has spent all.

    Then it has a place, if its batch limits them, until it is `released`; other ends leave that to its next run.
    """
    work.worker.postponed.add(work.name)
    try:
        entry = await _affordable(work, entry)
        await work.worker.gate.admit(work.prompt.model, work.name)
        await work.worker.refused_rows.wait(work.shard, work.prompt.model, work.name, work.order)
        if work.limited:
            await work.worker.places.wait(work.shard, work.prompt.index, work.order)
        await _first_of_its_model(work)
    finally:
        work.worker.postponed.discard(work.name)
    return entry


async def attached(work: Work) -> None:
    """Count a prediction that runs already: it waits for no place, and others wait for its."""
    if work.limited:
        await work.worker.places.count(work.shard, work.prompt.index)


async def released(work: Work) -> None:
    """Give the prompt's place to another: nothing of it runs any more, unless another worker has the prompt by now."""
    if work.limited and work.worker.leases.sure(lease_name(work.shard.job_id)):
        await work.worker.places.give(work.shard, work.prompt.index)


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


async def _affordable(work: Work, entry: Entry) -> Entry:
    tries = 0
    while work.shard.batch_id in work.worker.short_of_budget:
        try:
            await work.ledger.afford(price(work))
        except OverBudget as over:
            await work.worker.gate.heard(work.prompt.model, work.name, "void")  # another prompt may probe its model
            if over.verdict == "spent":
                raise
            if entry.ambiguous:  # it may have been paid: nothing of it comes back that others could wait for
                entry = await work.ledger.close(entry, entry.reserved, "unknown")
                continue
            if over.verdict == "unpriced":
                await work.worker.account.give_notice(
                    f"batch {work.shard.batch!r} has a --max-cost, and BATCH_PRICES of a worker has no price for "
                    f"{work.prompt.model}"
                )
        else:
            work.worker.short_of_budget.discard(work.shard.batch_id)
            break
        tries += 1
        await asyncio.sleep(SOON.delay(tries))
    return entry
