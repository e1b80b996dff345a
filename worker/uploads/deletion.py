"""The deletion of uploads, in the background: after a batch is finished, or later, if its worker was stopped or killed.

Redis takes the uploads out of use, and only while the batch is finished: a retry meanwhile uploads its files again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.config import Config
from jobs.errors import AccountRefused, NotSent, RateLimited, ReplicateError, Unanswered
from jobs.redis_client.resilience import Redis
from jobs.state.uploads import BatchUploads, FileUploads
from jobs.wire import Batch
from worker.background import every
from worker.leases import Leases
from worker.uploads.sender import Origin, Sender

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""Files that are deleted at once."""


class UploadDeletion:
    """Deletes the uploads of the batches that it is told of, while it is `running`; one worker at a time for each."""

    def __init__(self, config: Config, redis: Redis, leases: Leases, sender: Sender) -> None:
        self._config, self._redis, self._leases, self._sender = config, redis, leases, sender
        self._due: dict[str, Batch] = {}
        self._wake = asyncio.Event()

    def note(self, batch: Batch) -> None:
        """Delete what a finished batch has at Replicate; safe to repeat."""
        if batch.uploads:
            self._due[batch.id] = batch
            self._wake.set()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Delete until the block ends, and a little longer; what is left then is noted again by another worker."""
        return every(self._config.lease, self._delete_due, wake=self._wake, at_end=self._delete_due)

    async def _delete_due(self) -> float:
        """Delete all that is due; what fails is noted again by the next look for finished batches."""
        while batch := next(iter(self._due.values()), None):
            try:
                await self._delete_alone(batch)
            except Exception:
                self._drop(batch)
                raise
            self._drop(batch)
        return math.inf

    def _drop(self, batch: Batch) -> None:
        if self._due.get(batch.id) is batch:
            del self._due[batch.id]

    async def _delete_alone(self, batch: Batch) -> None:
        if lease := await self._leases.try_acquire(f"uploads:{batch.id}", ""):
            try:
                await self._leases.run(lease, self._delete_all(batch))
            finally:
                await self._leases.release(lease)

    async def _delete_all(self, batch: Batch) -> None:
        """Delete all uploads of a batch, unless its owner wants to keep them; ReplicateError when one is left."""
        records, last = BatchUploads(self._redis, batch.name, batch.id), str(batch.uploads)
        manifest = await asyncio.to_thread(read_manifest, Folder(self._config.output_dir, batch.name))
        if manifest and manifest.id == batch.id and manifest.keep_uploads:
            return await records.close(last)
        retired = [one async for one in records.retire()]
        waiting = iter(retired)
        ended = await asyncio.gather(
            *(self._delete_files(records, waiting) for _ in range(AT_ONCE)), return_exceptions=True
        )
        for error in filter(None, ended):
            raise error
        if any(one.lost for one in retired):
            await self._delete_lost(batch.id, {nonce for one in retired for nonce in one.lost})
            for one in retired:
                await records.forget(replace(one, earlier=()))
        if count := sum(len(one.earlier) for one in retired):
            logger.info("● %s: deleted %d uploads", batch.name, count)
        if retired:
            await records.close(last)
        return None

    async def _delete_files(self, records: BatchUploads, waiting: Iterator[FileUploads]) -> None:
        for one in waiting:
            for file_id in one.earlier:
                await self._delete(file_id)
            await records.forget(replace(one, lost=()))

    async def _delete_lost(self, batch_id: str, nonces: set[str]) -> None:
        """Delete uploads that nobody recorded, by what the list says of their origin."""
        cursor, read = None, set[str | None]()
        while cursor not in read:
            read.add(cursor)
            async with self._sender.gate.request("read"):
                page = await self._sender.files.list(cursor)
            for file in page.files:
                if any(Origin(batch_id, nonce).is_of(file) for nonce in nonces):
                    await self._delete(file.id)
            cursor = page.next
            if cursor is None:
                return

    async def _delete(self, file_id: str) -> None:
        """Delete a file, or find that it is gone or stays; raises what may pass."""
        while True:
            try:
                async with self._sender.gate.request("read"):
                    return await self._sender.files.delete(file_id)
            except RateLimited:
                continue  # the gate waits
            except (AccountRefused, NotSent, Unanswered):
                raise
            except ReplicateError as error:
                return logger.debug("upload %s is not deleted: %s", file_id, error)
