"""From the batch's copy to the queue: unsettled prompts become shards, deterministically."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice

from pydantic import BaseModel

from jobs.account.account import Account
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import CopiedRow, are_of_first_generation, kept_row, read_lines
from jobs.enqueue.estimate import Estimator
from jobs.events.event import Event, EventKind
from jobs.events.log import record
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId, Packed, pack_rows
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits
from jobs.wire import SHARD_SIZE, Batch, Shard


class Receipt(BaseModel):
    """What `enqueue` and `retry` did: prompts and shards that they put into the queue; prompts that were done.

    `dead_letters` are shards that do not run until `retry`; `warnings` are of the file: names that look misspelt.
    `begun_from` is the file that the batch was first enqueued from, if known; `pinned` the version of each community
    model that rows name without one.

    The costs are in dollars, of all that is not done: if each succeeds at once, and if each needs all attempts. They
    are partial without the prompts of `unpriced_models`. `unpriced` are sentences on what is not known: one for each of
    these models, then others.
    """

    batch: str
    total: int
    enqueued: int
    already_done: int
    shards: int
    workers: int
    dead_letters: list[str] = []
    cost_at_least: float | None = None
    cost_at_most: float | None = None
    cost_is_partial: bool = False
    unpriced: list[str] = []
    unpriced_models: list[str] = []
    warnings: list[str] = []
    begun_from: str | None = None
    pinned: dict[str, str] = {}


def job_of(batch: str, row: CopiedRow) -> JobId:
    """The job that has a row of the copy."""
    return JobId(batch, row.index // SHARD_SIZE, row.generation)


def shards_of(batch: Batch, folder: Folder, wanted: Callable[[range], list[int]]) -> Iterator[tuple[Packed, list[int]]]:
    """Yield the shards of the rows of the copy, with their indexes, that `wanted` picks of each 100; StorageError."""
    copied = read_lines(folder)
    for number in count():
        if not (lines := list(islice(copied, SHARD_SIZE))):
            return
        first = number * SHARD_SIZE
        for generation, texts in _by_generation(folder, first, lines, wanted(range(first, first + len(lines)))):
            shard = Shard(batch.name, batch.id, number, generation, ())
            yield pack_rows(shard, list(texts), list(texts.values())), list(texts)


def _by_generation(
    folder: Folder, first: int, lines: list[bytes], wanted: list[int]
) -> Iterable[tuple[int, dict[int, bytes]]]:
    """The texts of the wanted rows by their indexes, for each generation."""
    if len(wanted) == len(lines) and are_of_first_generation(lines):
        return [(0, {index: line[:-1] for index, line in zip(wanted, lines, strict=True)})]
    generations: dict[int, dict[int, bytes]] = defaultdict(dict)
    for index in wanted:
        row = kept_row(folder, index, lines[index - first])
        generations[row.generation][index] = row.text
    return sorted(generations.items())


async def enqueue_unsettled(
    redis: Redis, batch: Batch, folder: Folder, done: Callable[[Bits], int], estimator: Estimator
) -> Receipt:
    """Put every shard with an unsettled prompt into the queue unless it is there; this completes a cut enqueue, too.

    Dead letters stay where they are. If all is settled but the batch is not finished, its last shard is queued.

    `done` counts the settled prompts that are to be reported as done already.
    """
    settled = await Batches(redis).settled(batch.name)
    dead = await DeadLetters(redis).of(batch.name)
    last = batch.total - 1 if batch.finished_at is None and len(settled) >= batch.total else None

    def wanted(indexes: range) -> list[int]:
        left = settled.missing(indexes)
        return left if last is None or last not in indexes or last not in settled else [*left, last]

    left = shards_of(batch, folder, wanted)
    added = await Queue(redis, batch.api_host).add(batch, (shard for shard, _ in left if shard.job_id not in dead))
    estimate = estimator.begin()
    if estimator.prices:
        estimate = await asyncio.to_thread(estimator.estimate, folder, lambda index: index not in settled)
    return Receipt(
        batch=batch.name,
        total=batch.total,
        enqueued=added.prompts if last is None else 0,
        already_done=done(settled),
        shards=added.shards if last is None else 0,
        workers=await Account(redis, batch.api_host).workers(),
        dead_letters=list(dead),
        **estimate.costs.facts(),
        unpriced=estimate.unpriced(),
    )


async def record_receipt(redis: Redis, receipt: Receipt, event: EventKind) -> Receipt:
    """Record in the batch's log that prompts were put into the queue, if any were; returns the receipt."""
    if receipt.enqueued:
        message = f"{receipt.enqueued:,} of {receipt.total:,} prompts"
        await record(redis, receipt.batch, Event(event=event, message=message))
    return receipt
