"""What the commands do: one open Redis, and a method for each operation."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from jobs.account.account import Account
from jobs.batch_folder.folder import MANIFEST, Folder
from jobs.budget import UNCHANGED, Budget
from jobs.config import Config
from jobs.errors import BatchNotFound, InputError
from jobs.names import name_problem
from jobs.operations.report import NO_BATCH
from jobs.redis_client.client import opened
from jobs.redis_client.requirements import check_server
from jobs.redis_client.resilience import Redis
from jobs.redis_client.server import server_name
from jobs.state.batches import Batches, Bits
from jobs.state.status import read_status
from jobs.wire import Status

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Order, Progress, Receipt
    from jobs.enqueue.estimate import Confirm
    from jobs.operations.limits import LimitChanges, LimitsChanged
    from jobs.operations.preview import Preview
    from jobs.operations.prompts_canceled import PromptsCanceled
    from jobs.operations.selection import Selection
    from jobs.schedules.scheduler import ScheduleStatus


def known_folder(name: str, config: Config) -> Folder:
    """The folder of a batch, which outlives what Redis knows of it; BatchNotFound when there is none."""
    folder = Folder(config.output_dir, name)
    if folder.batch_id() is None:
        raise BatchNotFound(f"{folder.path} is not the folder of a batch; `python -m jobs status` lists the batches")
    return folder


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of the command line; every method may raise a BatchError."""

    config: Config
    redis: Redis

    @classmethod
    @asynccontextmanager
    async def opened(cls, *, start: bool = True) -> AsyncIterator[Self]:
        """Read the configuration and open its Redis, `start` as for `client.opened`; ConfigError, RedisUnreachable.

        The error for a batch that is not found says which Redis was asked.
        """
        config = Config.load()
        try:
            async with opened(config, start=start) as redis:
                yield cls(config, redis)
        except BatchNotFound as error:
            raise BatchNotFound(f"{error} (asked: {server_name(config)})") from error

    async def newest(self, name: str | None) -> str:
        """The name itself, or that of the newest unfinished batch, else of the newest; BatchNotFound."""
        if name is not None:
            return name
        batches = Batches(self.redis)
        if not (names := await batches.names()):
            raise BatchNotFound(NO_BATCH)
        ended = await batches.endings(names)
        return next((name for name in names if name not in ended), names[0])

    async def status(self, name: str) -> Status:
        """What is known of a batch now; BatchNotFound."""
        batch = await Batches(self.redis).find(name)
        if batch is None and not name_problem(name, 64) and (self.config.output_dir / name / MANIFEST).exists():
            raise BatchNotFound(
                f"Redis does not know {name!r} any more, but its folder is there: `python -m jobs results {name}` sums "
                "it up, and `python -m jobs enqueue FILE`, with the same file, goes on with what is not done"
            )
        batch = batch or await Batches(self.redis).get(name)
        status = await read_status(self.redis, batch)
        return status.model_copy(update={"elsewhere": batch.api_host != self.config.api_host})

    async def statuses(self, names: Sequence[str] | None = None) -> list[Status]:
        """The batches of these names, by default all, newest first; BatchNotFound."""
        names = await Batches(self.redis).names() if names is None else names
        return [await self.status(name) for name in names]

    async def enqueue(self, order: Order, progress: Progress | None = None, confirm: Confirm | None = None) -> Receipt:
        """Enqueue a prompts file if `confirm` agrees to the costs, and report its progress; PromptsError."""
        from jobs.enqueue.enqueue import enqueue, ignore_progress

        await check_server(self.redis)
        if order.source == "-" or confirm:
            progress = None  # its line is needed for a question, or by who types the prompts
        return await enqueue(order, self.config, self.redis, progress or ignore_progress, confirm)

    async def retry(
        self,
        name: str,
        budget: Budget = UNCHANGED,
        confirm: Confirm | None = None,
        only: Selection | None = None,
    ) -> Receipt:
        """Enqueue again what did not succeed, or `only` these of it; BatchNotFound, InputError."""
        from jobs.enqueue.enqueue import retry

        await check_server(self.redis)
        indexes = await self._resolve(name, only) if only else None
        return await retry(name, self.config, self.redis, budget, confirm, indexes)

    async def preview_retry(self, name: str, only: Selection | None = None) -> Preview:
        """What `retry` would do now; BatchNotFound, InputError."""
        from jobs.operations.preview import preview_retry

        return await preview_retry(name, self.config, self.redis, await self._resolve(name, only) if only else None)

    async def preview_cancel(self, name: str, only: Selection | None = None) -> Preview:
        """What `cancel` would do now; BatchNotFound, InputError."""
        from jobs.operations.preview import preview_cancel

        return await preview_cancel(name, self.config, self.redis, await self._resolve(name, only) if only else None)

    async def limit(
        self, name: str, limits: LimitChanges, priority: float | None = None, *, dry_run: bool = False
    ) -> LimitsChanged:
        """Change limits of a batch, also while it runs, or only say what would change; BatchNotFound, InputError."""
        from jobs.operations.limits import change_limits

        return await change_limits(name, self.config, self.redis, limits, priority, dry_run=dry_run)

    async def _resolve(self, name: str, selection: Selection) -> Bits:
        """The indexes of the prompts that a selection means; BatchNotFound, InputError."""
        batches = Batches(self.redis)
        await batches.get(name)
        failed = await batches.unsuccessful(name)
        return await asyncio.to_thread(lambda: selection.resolve(known_folder(name, self.config), failed))

    async def pause(self, reason: str) -> str:
        """Create nothing more at our API host until `resume`; returns a sentence with the reason."""
        account = Account(self.redis, self.config.api_host)
        new = await account.pause(reason, _person())
        return f"Paused{'' if new else ' already'}: {await account.pause_reason() or reason}"

    async def resume(self) -> bool:
        """Lift the pause, of the account and of models; False when there was none."""
        account = Account(self.redis, self.config.api_host)
        resumed_models = await account.resume_models()
        return await account.resume() or resumed_models

    async def pause_batch(self, name: str, reason: str) -> str:
        """Create nothing more for one batch until it is resumed; returns a sentence. BatchNotFound."""
        batches = Batches(self.redis)
        new = await batches.pause(name, (await batches.get(name)).id, reason)
        status = await self.status(name)
        if status.paused is None:
            return (
                f"{name}: nothing was paused; it is {'being canceled' if status.finished_at is None else status.state}"
            )
        return f"{name}: paused{'' if new else ' already'}: {status.paused}"

    async def resume_batch(self, name: str) -> bool:
        """Lift the pause of one batch; False when it was not paused itself. BatchNotFound."""
        batches = Batches(self.redis)
        return await batches.pause(name, (await batches.get(name)).id, None)

    async def paused_batches(self) -> list[str]:
        """The batches that are paused themselves, newest first."""
        found = [await Batches(self.redis).find(name) for name in await Batches(self.redis).names()]
        return [batch.name for batch in found if batch and batch.paused is not None]

    async def cancel(self, name: str) -> Status:
        """Let the workers cancel every prompt that has no result; BatchNotFound."""
        batches = Batches(self.redis)
        if (await batches.get(name)).finished_at is None:
            await batches.request_cancel(name)
        if (await self.status(name)).dead_letters:
            from jobs.enqueue.retry import requeue_dead_letters

            await requeue_dead_letters(name, self.config, self.redis)  # a worker has to settle them too
        return await self.status(name)

    async def cancel_prompts(self, name: str, only: Selection) -> PromptsCanceled:
        """Let the workers cancel these prompts if they have no result; the batch goes on. BatchNotFound, InputError."""
        from jobs.operations.prompts_canceled import PromptsCanceled

        indexes = await self._resolve(name, only)
        batch = await Batches(self.redis).get(name)
        chosen = [index for index in range(batch.total) if index in indexes]
        marked = await Batches(self.redis).cancel_prompts(name, batch.id, chosen)
        status = await self.status(name)
        return PromptsCanceled(batch=name, prompts=marked, workers=status.workers, dead_letters=status.dead_letters)

    async def delete(self, name: str, *, force: bool) -> int:
        """Forget a batch and take it off the queue; its folder stays. InputError while it is unfinished.

        Returns how many of its attempts were open: their predictions may go on at Replicate.
        """
        from jobs.queue.shard_queue import Queue
        from jobs.state.pending import open_attempts
        from jobs.state.release import release_batch

        batch = await Batches(self.redis).get(name)
        if batch.finished_at is None and not force:
            ways = f"`python -m jobs cancel {name}` first, or `python -m jobs delete {name} --force`"
            raise InputError(f"batch {name!r} is not finished: {ways}")
        await Queue(self.redis, batch.api_host).remove(name)
        attempts = await open_attempts(self.redis, name)
        await Batches(self.redis).delete(name)
        await release_batch(self.redis, batch.api_host, name)
        return len(attempts)

    async def queued(self) -> int:
        """How many shards are waiting or running, of all batches."""
        from jobs.queue.shard_queue import Queue

        return await Queue(self.redis, self.config.api_host).size()

    async def schedule_warnings(self) -> list[str]:
        """What recently went wrong with schedules, in sentences."""
        from jobs.schedules.state import ScheduleStates

        return await ScheduleStates(self.redis, self.config.api_host).warnings(time.time())

    async def schedules(self) -> list[ScheduleStatus]:
        """All schedules with their next and last time; ScheduleError."""
        from jobs.schedules.scheduler import Schedules

        return await Schedules(self.redis, self.config).overview(time.time())


def _person() -> str:
    """Who runs this process, as far as the machine knows."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name
        return f"uid {os.getuid()}@{socket.gethostname()}"
