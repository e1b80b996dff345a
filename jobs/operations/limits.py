"""Changes the limits of a batch while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.lock import locked
from jobs.budget import Budget
from jobs.catalog.catalog import Catalog
from jobs.config import Config
from jobs.enqueue.estimate import Estimator
from jobs.enqueue.ownership import known_limits, read_ownership, save_limits
from jobs.errors import InputError
from jobs.operations.report import count_text
from jobs.prices.money import dollars, money
from jobs.queue.priority import change_priority
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch

LimitChanges = Mapping[str, int | None]
"""New limits, by the fields of a `Budget`; None lifts one, and one that is missing stays."""


class Limits(BaseModel):
    """The limits of a batch, `max_cost` in dollars; None is no limit."""

    max_predictions: int | None
    max_cost: float | None
    max_in_flight: int | None
    priority: float


class LimitsChanged(BaseModel):
    """The limits of a batch before and after; `moved` is how many of its shards have another place in the queue.

    `spent`: the new budget is used up already, so that what still waits will fail.
    """

    batch: str
    before: Limits
    after: Limits
    moved: int = 0
    spent: bool = False


async def change_limits(
    name: str, config: Config, redis: Redis, limits: LimitChanges, priority: float | None, *, dry_run: bool = False
) -> LimitsChanged:
    """Change limits of a batch, which workers obey within seconds; BatchNotFound, InputError, StorageError.

    With `dry_run`, only say what would change.
    """
    Budget(**limits).check()
    batches, folder = Batches(redis), Folder(config.output_dir, name)
    await batches.get(name)
    await read_ownership(folder, config, redis)
    async with locked(folder, create=False):
        batch = await batches.get(name)
        manifest, _ = await read_ownership(folder, config, redis)
        budget = replace(known_limits(manifest, batch), **limits)
        if limits.get("max_cost") is not None:
            await asyncio.to_thread(_demand_prices, folder, config, budget)
        changed = _compare(batch, budget, priority)
        if dry_run:
            return changed
        if manifest:
            save_limits(folder, manifest, budget, fsync=config.fsync)
        await batches.change_limits(name, batch.id, limits)
        if priority is not None:
            changed.moved = await change_priority(redis, batch, priority)
    return changed


def _demand_prices(folder: Folder, config: Config, budget: Budget) -> None:
    estimate = Estimator.load(config, Catalog(config, folder, None)).estimate(folder)
    try:
        estimate.demand_prices(budget, str(folder.prompts))
    except InputError as error:
        raise InputError(str(error).replace("nothing was enqueued", "nothing was changed")) from None


def _compare(batch: Batch, budget: Budget, priority: float | None) -> LimitsChanged:
    before = _limits(Budget(batch.max_predictions, batch.max_cost, batch.max_in_flight), batch.priority)
    after = _limits(budget, batch.priority if priority is None else priority)
    spent = _is_spent(batch.predictions, budget.max_predictions) or _is_spent(batch.cost, budget.max_cost)
    return LimitsChanged(batch=batch.name, before=before, after=after, spent=spent and batch.settled < batch.total)


def _is_spent(amount: int, limit: int | None) -> bool:
    return limit is not None and amount >= limit


def _limits(budget: Budget, priority: float) -> Limits:
    return Limits(
        max_predictions=budget.max_predictions,
        max_cost=None if budget.max_cost is None else dollars(budget.max_cost),
        max_in_flight=budget.max_in_flight,
        priority=priority,
    )


def limit_lines(changed: LimitsChanged) -> Iterator[str]:
    """What people read of it: each limit that changed."""
    before, after = changed.before.model_dump(), changed.after.model_dump()
    words = [
        f"--{name.replace('_', '-')} {_shown(name, after[name])} (was {_shown(name, before[name])})"
        for name in after
        if after[name] != before[name]
    ]
    yield f"{changed.batch}: {', '.join(words) or 'these are its limits already'}"
    if changed.moved:
        yield f"{count_text(changed.moved, 'shard')} moved in the queue"
    if changed.spent:
        yield "That budget is used up already: prompts that still wait will fail (over_budget)."


def known_limit_lines(changed: LimitsChanged) -> Iterator[str]:
    """The limits that a batch has, and how one is changed."""
    limits = [f"--{name.replace('_', '-')} {_shown(name, value)}" for name, value in changed.after.model_dump().items()]
    yield f"{changed.batch}: {', '.join(limits)}"
    yield f"`python -m jobs limit {changed.batch} --max-in-flight 20` changes one; `none` lifts one"


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    return money(value) if name == "max_cost" else f"{value:g}"
