"""Retries a batch's failed and canceled prompts, as its next generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain, count, repeat

from redis.asyncio.client import Pipeline

from jobs.batch_folder.atomic_files import replacing, storing
from jobs.batch_folder.folder import RETRIED, Folder
from jobs.batch_folder.lock import locked
from jobs.batch_folder.prompts_copy import CopiedRow, kept_line, model_of, read_rows
from jobs.budget import UNCHANGED, Budget
from jobs.catalog.catalog import Catalog
from jobs.catalog.models_file import keep_models
from jobs.catalog.row_check import pinned_text
from jobs.config import Config
from jobs.enqueue.estimate import Confirm, Estimator
from jobs.enqueue.ownership import known_limits, read_ownership, save_limits
from jobs.enqueue.sharding import Receipt, enqueue_unsettled, job_of, record_receipt, shards_of
from jobs.errors import InputError
from jobs.prices.money import dollars_text
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.shard_queue import Added, Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits
from jobs.wire import Batch, Outcome

Ended = tuple[Outcome, str]
"""How a prompt had ended, and its kind of error."""

Retried = dict[int, Ended]
"""Index of each retried prompt, and how it had ended."""


async def retry(
    name: str,
    config: Config,
    redis: Redis,
    budget: Budget = UNCHANGED,
    confirm: Confirm | None = None,
    only: Bits | None = None,
) -> Receipt:
    """Enqueue again what did not succeed or is in a dead letter, also of a canceled batch, if `confirm` agrees.

    `only` these prompts, and those that an earlier retry left without a record when it was cut short. BatchNotFound,
    StorageError, InputError.
    """
    budget.check()
    batches = Batches(redis)
    await batches.get(name)
    folder = Folder(config.output_dir, name)
    await read_ownership(folder, config, redis)
    catalog = Catalog(config, folder, None)
    estimator = Estimator.load(config, catalog)
    if confirm:
        await _ask(redis, folder, estimator, confirm, only)
    async with locked(folder):
        batch = await batches.get(name)
        failed, dead = await choose(redis, folder, batch, only)
        spent = await _limit(batch, budget, failed, estimator, config, redis)
        if spent and not dead:
            raise InputError(spent)
        again = Bits(b"") if spent else failed
        warnings = await asyncio.to_thread(_keep_prices, folder, estimator, fsync=config.fsync)
        pinned = partial(as_pinned, {name: model.pinned for name, model in catalog.kept.items()})
        aside = partial(start_generation, folder, batch, again, dead, pinned, fsync=config.fsync)
        receipt = await _enqueue_generation(redis, batch, folder, aside, dead, estimator)
        return receipt.model_copy(update={"warnings": [*([spent] if spent else []), *warnings]})


async def _enqueue_generation(
    redis: Redis,
    batch: Batch,
    folder: Folder,
    start: Callable[[], tuple[Retried, int]],
    dead: Collection[str],
    estimator: Estimator,
) -> Receipt:
    retried, generation = await asyncio.to_thread(start)
    if retried or batch.settled < batch.total:
        await Batches(redis).reopen(batch.name, generation)
    added = await requeue(redis, batch, folder, retried)
    await DeadLetters(redis).requeue(batch.name, dead)
    receipt = await enqueue_unsettled(redis, batch, folder, len, estimator)
    more = {"enqueued": receipt.enqueued + added.prompts, "shards": receipt.shards + added.shards}
    return await record_receipt(redis, receipt.model_copy(update=more), "retried")


def _keep_prices(folder: Folder, estimator: Estimator, *, fsync: bool) -> list[str]:
    """Keep the prices of a batch that began without them; returns which differ from those that hold now."""
    if not estimator.prices:
        return []
    models = {model_of(row.text) for row in read_rows(folder)}
    keep_models(folder, {}, estimator.prices.all_cards(models), fsync=fsync)
    return estimator.prices.warnings(models)


async def choose(redis: Redis, folder: Folder, batch: Batch, only: Bits | None) -> tuple[Bits, Collection[str]]:
    """The failed and canceled prompts to retry, and the dead letters to bring back; InputError, StorageError."""
    batches = Batches(redis)
    failed, dead = await batches.unsuccessful(batch.name), await DeadLetters(redis).of(batch.name)
    if only is None:
        return failed, dead
    if batch.cancel_requested and batch.finished_at is None:
        raise InputError(
            f"batch {batch.name!r} is being canceled, and a retry of some of its prompts would end that; try again "
            f"when it is finished: `python -m jobs watch {batch.name}` follows it"
        )
    settled = await batches.settled(batch.name)
    return await asyncio.to_thread(_choose_rows, folder, (settled, failed, only), dead)


def _choose_rows(folder: Folder, bits: tuple[Bits, Bits, Bits], dead: Collection[str]) -> tuple[Bits, list[str]]:
    settled, failed, only = bits
    indexes, jobs = list[int](), dict[str, None]()
    for row in read_rows(folder):
        if row.index in failed and (row.index in only or _was_cut_short(folder, row)):
            indexes.append(row.index)
        elif row.index in only and row.index not in settled and (job := str(job_of(folder.batch, row))) in dead:
            jobs[job] = None
    return Bits.of(indexes), list(jobs)


def _was_cut_short(folder: Folder, row: CopiedRow) -> bool:
    """Whether a retry that did not complete moved the prompt's record aside."""
    return not folder.prompt(row.id).exists() and folder.last_record(row.id, row.generation) is not None


async def _ask(redis: Redis, folder: Folder, estimator: Estimator, confirm: Confirm, only: Bits | None) -> None:
    batches = Batches(redis)
    settled = await batches.settled(folder.batch) if only is None else None
    failed, _ = await choose(redis, folder, await batches.get(folder.batch), only)
    left = await asyncio.to_thread(
        estimator.estimate, folder, lambda index: index in failed or (settled is not None and index not in settled)
    )
    if left.prompts:
        confirm(left.costs)


async def requeue_dead_letters(name: str, config: Config, redis: Redis) -> None:
    """Put the batch's dead letters back into the queue, and nothing else; BatchNotFound, StorageError."""
    folder, batches, letters = Folder(config.output_dir, name), Batches(redis), DeadLetters(redis)
    await read_ownership(folder, config, redis)
    async with locked(folder):
        batch, dead = await batches.get(name), await letters.of(name)
        await asyncio.to_thread(start_generation, folder, batch, Bits(b""), dead, fsync=config.fsync)
        await letters.requeue(name, dead)
        await enqueue_unsettled(redis, batch, folder, len, Estimator())


def spent_reason(batch: Batch, budget: Budget, cheapest: int) -> str | None:
    """Why the budget allows not even the cheapest prediction; None if it does."""
    if budget.max_predictions is not None and batch.predictions >= budget.max_predictions:
        spent = f"made {batch.predictions} of {budget.max_predictions} predictions"
        cure = "--max-predictions"
    elif budget.max_cost is not None and batch.cost + cheapest > budget.max_cost:
        spent = f"spent {dollars_text(batch.cost)} of {dollars_text(budget.max_cost)} dollars"
        spent += f", and the next prediction costs {dollars_text(cheapest)}"
        cure = "--max-cost"
    else:
        return None
    return (
        f"batch {batch.name!r} has {spent}: what failed would fail again, so it was not enqueued; "
        f"give it a higher {cure}"
    )


async def _limit(
    batch: Batch, budget: Budget, failed: Bits, estimator: Estimator, config: Config, redis: Redis
) -> str | None:
    """Save the new budget; if it is spent already, return why instead."""
    folder = Folder(config.output_dir, batch.name)
    manifest, _ = await read_ownership(folder, config, redis)
    whole = budget.over(known_limits(manifest, batch))
    cheapest = 0
    if whole.max_cost is not None:
        (await asyncio.to_thread(estimator.estimate, folder)).demand_prices(whole, str(folder.prompts))
        cheapest = (await asyncio.to_thread(estimator.estimate, folder, failed.__contains__)).cheapest
    batches = Batches(redis)
    if failed and not await batches.in_flight(batch.name) and (spent := spent_reason(batch, whole, cheapest)):
        return spent  # nothing is in flight whose reservation could come free
    if manifest:
        save_limits(folder, manifest, whole, fsync=config.fsync)
    await batches.set_budget(batch.name, budget.max_predictions, budget.max_cost, budget.max_in_flight)
    return None


def as_pinned(pins: Mapping[str, str], row: CopiedRow) -> bytes:
    """What a row says when it is tried again: it may have been enqueued before its model was looked up."""
    name = model_of(row.text)
    return pinned_text(row.text, name, pins.get(name, name))


def unchanged_text(row: CopiedRow) -> bytes:
    """What a row says when it is tried again."""
    return row.text


def start_generation(
    folder: Folder,
    batch: Batch | None,
    failed: Bits | Mapping[int, object],
    dead: Collection[str],
    text_of: Callable[[CopiedRow], bytes] = unchanged_text,
    *,
    fsync: bool,
) -> tuple[Retried, int]:
    """Move the records aside, then mark the rows in the copy as of a new generation, which is returned, too.

    Rows of dead letters are marked as well: a new job takes them, as the last run of the old one may not have ended.
    """
    found: dict[int, Ended | None] = {}
    generation = batch.generation if batch else 0
    for row in read_rows(folder):
        generation = max(generation, row.generation)
        if row.index in failed:
            found[row.index] = _move_record(folder, row)
    generation += 1
    if found or dead:
        with replacing(folder.prompts, fsync=fsync) as file:
            for row in read_rows(folder):
                again = row.index in found or str(job_of(folder.batch, row)) in dead
                file.write(kept_line(text_of(row), generation) if again else kept_line(row.text, row.generation))
    return _fill_gaps(found, batch.failed if batch else 0), generation


def _fill_gaps(found: dict[int, Ended | None], failed: int) -> Retried:
    """Take from the counters how prompts had ended whose record somebody removed."""
    unexplained = failed - sum(ended is not None and ended[0] == "failed" for ended in found.values())
    guesses: Iterator[Ended] = chain(repeat(("failed", ""), max(unexplained, 0)), repeat(("canceled", "")))
    return {index: ended or next(guesses) for index, ended in found.items()}


def _move_record(folder: Folder, row: CopiedRow) -> Ended | None:
    """Move a prompt's folder below .retried, unless an earlier, cut retry did; returns how the prompt had ended."""
    record = folder.last_record(row.id, row.generation)
    aside = folder.path / RETRIED
    with storing(folder.prompt(row.id)):
        aside.mkdir(exist_ok=True)
        target = aside / f"{row.id}.{row.generation}"
        numbers = count(1)
        while target.exists():
            target = aside / f"{row.id}.{row.generation}.{next(numbers)}"
        with suppress(FileNotFoundError):
            folder.prompt(row.id).rename(target)
    return (record.status, record.error.kind if record.error else "") if record else None


async def requeue(redis: Redis, batch: Batch, folder: Folder, retried: Retried) -> Added:
    """Queue each shard with a retried prompt, and take the old results back in the same MULTI."""
    queue, added = Queue(redis, batch.api_host), Added()
    for packed, indexes in shards_of(batch, folder, lambda indexes: [index for index in indexes if index in retried]):
        taking_back = partial(_take_back, Batches(redis), batch.name, {index: retried[index] for index in indexes})
        shards, prompts = await queue.add(batch, [packed], taking_back)
        added = Added(added.shards + shards, added.prompts + prompts)
    return added


async def _take_back(batches: Batches, name: str, retried: Retried, pipe: Pipeline) -> None:
    for index, (outcome, kind) in retried.items():
        await batches.unsettle(name, index, outcome, pipe, kind)
