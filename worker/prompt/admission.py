"""The permit of a create: all that a prompt waits for before it is paid for, in one order, released in one place.

First its batch must not be paused; then the batch's folder and budget, uploads of local files, the model's circuit
breaker, rows that were refused, the limits of the batch and of the model, and a slot in flight; then, for each request,
a connection and a start time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from redis.exceptions import RedisError

from jobs.errors import OverBudget
from jobs.input_files.reference import with_files
from jobs.state.ledger import Entry
from jobs.state.uploads import Upload
from jobs.state.waits import Kind
from worker.context import Work
from worker.leases import lease_name
from worker.limits.batch_limiter import BatchBusy
from worker.prompt.cost import price
from worker.prompt.retry_policy import SOON


@asynccontextmanager
async def permit(work: Work, entry: Entry) -> AsyncIterator[Permit]:
    """Wait until the prompt may be paid for; OverBudget when its batch has spent everything.

    InputFileError when a local file of its input cannot be uploaded. Whatever ends the block releases what is held in
    this process. What Redis counts as in flight is released too, unless an exception, such as a cancel, ends it after
    `keep`: then it belongs to the prediction, which runs on.
    """
    async with _released(Permit(work, entry)) as held:
        await held.acquire()
        async with work.worker.in_flight.turn(work.order):
            yield held


@asynccontextmanager
async def attached(work: Work) -> AsyncIterator[None]:
    """Count a prediction that runs already: it waits for nothing, and others wait for it until the block ends."""
    async with _released(Permit(work, Entry())) as held:
        await held.count()
        yield


async def release(work: Work) -> None:
    """Count no prediction of the prompt as in flight any more, unless another worker has its shard by now."""
    if not work.worker.leases.is_valid(lease_name(work.shard.job_id)):
        return
    await work.worker.model_limiter.release(work.prompt.model, work.name)
    if work.limited:
        await work.worker.batch_limiter.release(work.shard, work.prompt.index)


class Permit:
    """One prompt's permit. `entry` is its place in the ledger, which the wait for the budget may have changed."""

    def __init__(self, work: Work, entry: Entry) -> None:
        self.entry = entry
        self.kept = False
        self._work = work
        self._uploads: Mapping[str, Upload] = {}
        self._counted = False

    async def acquire(self) -> None:
        """Wait for all that holds no slot meanwhile, in order."""
        work, worker, model, waits = self._work, self._work.worker, self._work.prompt.model, self._work.worker.waits
        if work.paused:
            await _wait_for_end(work, self.entry)
        await _wait_for_folder(work)
        self.entry = await _wait_for_budget(work, self.entry)
        with waits.on(work.name, "upload"):
            self._uploads = await worker.uploads.ensure(work.shard, work.prompt, work.folder.path, work.order)
        with waits.on(work.name, "breaker", model):
            await worker.breaker.admit(model, work.name)
        with waits.on(work.name, "refused", model):
            await worker.refused_rows.acquire(work.shard, model, work.name, work.order)
        if work.limited:
            with waits.on(work.name, "batch limit"):
                await worker.batch_limiter.acquire(work.shard, work.prompt.index, work.order)
            self._counted = True
        with waits.on(work.name, "model limit", model):
            await worker.model_limiter.acquire(model, work.name, work.order)

    @property
    def input(self) -> Mapping[str, Any]:
        """The prompt's input with the URLs of its local files."""
        return with_files(self._work.prompt.input, lambda reference: self._uploads[reference.sha256].url)

    async def count(self) -> None:
        """Count a prediction that runs already."""
        self.kept = self._counted = True
        if self._work.limited:
            await self._work.worker.batch_limiter.count(self._work.shard, self._work.prompt.index)

    def connection(self) -> AbstractAsyncContextManager[None]:
        """A connection for one request, so that an intent never waits for one."""
        return self._work.worker.connections.turn(self._work.order)

    def is_outdated(self) -> bool:
        """Whether the prompt would have to wait by now for its budget or its folder."""
        worker, work = self._work.worker, self._work
        return work.shard.batch_id in worker.short_of_budget or bool(worker.folders.own_trouble(work.folder.path))

    @asynccontextmanager
    async def start_time(self) -> AsyncIterator[None]:
        """Make one request in the block, when the rate limit lets it start; MustWait when another limit is reached."""
        work, breaker = self._work, self._work.worker.breaker
        breaker.check(work.prompt.model, work.name)  # those that queue must not use up what others could
        async with work.worker.gate.request("create", work.order, prompt=work.name, before=self._count_in):
            yield

    def keep(self) -> None:
        """From now on there may be a prediction: what Redis counts belongs to it."""
        self.kept = True

    def note_created(self) -> None:
        """The create was accepted: rows that wait for its answer go on."""
        work = self._work
        work.worker.refused_rows.note_created(work.shard, work.prompt.model)
        work.worker.refused_rows.release(work.shard, work.prompt.model, work.name)

    def leave_queues(self) -> None:
        """Let others of its batch and of its model try."""
        work = self._work
        work.worker.refused_rows.release(work.shard, work.prompt.model, work.name)
        work.worker.model_limiter.leave(work.prompt.model, work.name)

    async def release(self) -> None:
        """Release what Redis counts."""
        if self._counted:
            await release(self._work)

    async def _count_in(self) -> None:
        """Count the prompt as in flight: all limits are checked once more, right before the request."""
        work, worker = self._work, self._work.worker
        worker.uploads.check(self._uploads)
        worker.breaker.check(work.prompt.model, work.name)
        self._counted = True
        if work.limited and not await worker.batch_limiter.try_acquire(work.shard, work.prompt.index):
            raise BatchBusy(f"the limit of {work.shard.batch} is reached")
        await worker.model_limiter.start(work.prompt.model, work.name)


@asynccontextmanager
async def _released(held: Permit) -> AsyncIterator[Permit]:
    try:
        yield held
    except BaseException:
        held.leave_queues()
        if not held.kept:
            with suppress(RedisError):  # the count runs out; the error before it is the one to raise
                await held.release()
        raise
    held.leave_queues()
    await held.release()


async def _wait_for_end(work: Work, entry: Entry) -> None:
    """Wait until the task is cancelled: when the batch goes on, the run of its shard starts its prompts again."""
    if entry.ambiguous:  # nobody found a prediction, and it must not look open: it may have been paid
        await work.ledger.close(entry, entry.reserved, "unknown")
    with work.worker.waits.on(work.name, "paused"):
        await asyncio.get_running_loop().create_future()


async def _wait_for_folder(work: Work) -> None:
    while reason := work.worker.folders.own_trouble(work.folder.path):
        work.worker.breaker.give_up_probe(
            work.prompt.model, work.name
        )  # so that another batch's prompt may probe its model
        with work.worker.waits.on(work.name, "folder", reason):
            await asyncio.sleep(work.worker.timing.folder_check)


async def _wait_for_budget(work: Work, entry: Entry) -> Entry:
    tries = 0
    while work.shard.batch_id in work.worker.short_of_budget:
        try:
            await work.ledger.afford(price(work))
        except OverBudget as over:
            work.worker.breaker.give_up_probe(work.prompt.model, work.name)  # so that another may probe
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
            await asyncio.sleep(SOON.delay(tries, work.worker.timing.jitter))
    return entry
