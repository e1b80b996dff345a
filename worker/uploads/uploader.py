"""Uploads the local files of inputs, each content once for its batch, before the first create that needs it.

An upload needs no permit and no intent, as it costs nothing. Whoever holds the role of a content uploads it, and the
others wait; all prompts of a worker that need it share one task. What can come between:

- The worker is killed, stalls, or the answer is lost: the role's lease expires and another uploads it again. The nonce
  that was noted before the request stays, so that the end of the batch finds and deletes what nobody recorded.
- It is killed after the record, or after the intent: the upload is in Redis, and its URL is used again; a search
  compares a prediction's input by the ids of all uploads of that content.
- The upload expires while its prompt waits for a permit: `check` sends the prompt round again, right before the intent.
- The batch is canceled, or ends otherwise, while a worker still uploads for it: Redis refuses the record, and the
  worker deletes its upload.
- Redis is away: the lease is lost or the record waits; at worst the file is uploaded again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from jobs.config import Config
from jobs.input_files.copies import copied_path
from jobs.input_files.path_texts import shown_path
from jobs.input_files.reference import FileReference, references
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.files import UploadedFile, file_id_in
from jobs.replicate_api.predictions import Replicate
from jobs.state.ledger import Overtaken
from jobs.state.uploads import BatchUploads, Upload
from jobs.wire import Prompt, Shard
from worker.leases import Leases
from worker.limits.circuit_breaker import MustWait
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.uploads.deletion import UploadDeletion
from worker.uploads.sender import Origin, Sender

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Uploads at once in a worker."""

LIFETIME = 86_400.0
"""Seconds that Replicate keeps a file, if its answer does not say."""

RENEW_BEFORE = 3600.0
"""Seconds before it expires from which on an upload is used no more: a prediction may wait long before it begins."""

ASK_AGAIN = 1.0
"""Seconds between two looks whether another worker has uploaded a content."""

_URL = re.compile(r"https?://[^\s'\"<>]*[\w/%=]")
_NOT_THERE = re.compile(r"\b(401|403|404|410)\b|not found|forbidden|expired", re.IGNORECASE)


class UploadExpires(MustWait):
    """An upload of the input expires soon; nothing was sent."""


@dataclass(slots=True)
class _Job:
    task: asyncio.Task[Upload]
    waiters: int = 0


@dataclass(frozen=True, slots=True)
class _Content:
    """A content that a batch needs; `folder` is the batch's, where a copy may be."""

    shard: Shard
    reference: FileReference
    folder: Path

    @property
    def key(self) -> tuple[str, FileReference]:
        return self.shard.batch_id, self.reference


class Uploader:
    """The uploads of one worker, while it is `running`."""

    def __init__(self, config: Config, redis: Redis, leases: Leases, replicate: Replicate, sender: Sender) -> None:
        self.sender = sender
        self.deletion = UploadDeletion(config, redis, leases, sender)
        self._redis, self._leases, self._replicate = redis, leases, replicate
        self._slots = PrioritySemaphore(AT_ONCE)
        self._jobs: dict[tuple[str, FileReference], _Job] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete uploads that are not needed any more until the block ends; then end all uploads."""
        try:
            async with self.deletion.running():
                yield
        finally:
            tasks = [job.task for job in self._jobs.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def ensure(self, shard: Shard, prompt: Prompt, folder: Path, order: float) -> dict[str, Upload]:
        """Have the files of an input uploaded, and return the uploads by sha256.

        InputFileError when one cannot be uploaded; Overtaken when the batch is over.
        """
        wanted = {reference.sha256: reference for reference in references(prompt.input)}
        known = await self.records(shard).read(list(wanted))
        found = {sha256: one.current for sha256, one in known.items() if one.current and self._is_fresh(one.current)}
        with ExitStack() as stack:
            missing = (_Content(shard, wanted[sha256], folder) for sha256 in wanted.keys() - found.keys())
            tasks = {one.reference.sha256: stack.enter_context(self._joined(one, order)) for one in missing}
            for sha256, task in tasks.items():
                found[sha256] = await asyncio.shield(task)
        return found

    def check(self, uploads: Mapping[str, Upload]) -> None:
        """Raise UploadExpires unless all uploads live long enough for a prediction to begin."""
        if not all(map(self._is_fresh, uploads.values())):
            raise UploadExpires("an upload of the input expires soon")

    async def ids(self, shard: Shard, prompt: Prompt) -> dict[str, frozenset[str]]:
        """The ids of all uploads there ever were of an input's files, by sha256."""
        wanted = list({reference.sha256 for reference in references(prompt.input)})
        return {sha256: one.ids for sha256, one in (await self.records(shard).read(wanted)).items()}

    async def drop_unfetched(self, shard: Shard, prompt: Prompt, error: str) -> bool:
        """Drop the upload that a model could not fetch, if the error of its prediction says so and names one."""
        named = unfetched_ids(error)
        records, wanted = self.records(shard), list({reference.sha256 for reference in references(prompt.input)})
        known = await records.read(wanted) if named else {}
        for sha256, one in known.items():
            if one.current and one.current.id in named:
                await records.drop(sha256, one.current)
        return any(named & one.ids for one in known.values())

    def records(self, shard: Shard) -> BatchUploads:
        """What Redis knows of the uploads of the shard's batch."""
        return BatchUploads(self._redis, shard.batch, shard.batch_id)

    @contextmanager
    def _joined(self, content: _Content, order: float) -> Iterator[asyncio.Task[Upload]]:
        """The task that uploads a content: shared by all prompts that wait for it, and cancelled after the last."""
        job = self._jobs.get(content.key)
        if job is None or job.task.done():
            job = self._jobs[content.key] = _Job(asyncio.create_task(self._upload(content, order)))
            job.task.add_done_callback(_retrieve)
        job.waiters += 1
        try:
            yield job.task
        finally:
            job.waiters -= 1
            if not job.waiters:
                job.task.cancel()
                if self._jobs.get(content.key) is job:
                    del self._jobs[content.key]

    async def _upload(self, content: _Content, order: float) -> Upload:
        """Wait until the content is uploaded, by this worker or by another."""
        name = f"upload:{content.shard.batch_id}:{content.reference.sha256}"
        found: list[Upload] = []
        while not found:
            async with self._slots.turn(order):
                if lease := await self._leases.try_acquire(name, ""):
                    try:
                        await self._leases.run(lease, self._upload_alone(content, found))
                    finally:
                        await self._leases.release(lease)
            if not found:
                await asyncio.sleep(ASK_AGAIN)
        return found[0]

    async def _upload_alone(self, content: _Content, found: list[Upload]) -> None:
        """Upload the content unless it is there; only the worker that holds its role does so."""
        records, reference = self.records(content.shard), content.reference
        known = (await records.read([reference.sha256])).get(reference.sha256)
        if known and known.current and self._is_fresh(known.current):
            found.append(known.current)
            return
        nonce = await records.begin(reference.sha256)
        if nonce is None:
            raise Overtaken(f"{content.shard.batch} is over: nothing is uploaded for it")
        paths, started = [copied_path(content.folder, reference), Path(reference.path)], time.monotonic()
        sent = await self.sender.send(paths, reference, Origin(content.shard.batch_id, nonce))
        upload = self._upload_of(sent.file)
        if not await records.record(reference.sha256, nonce, upload, doubled=sent.doubled):
            await self.sender.delete(upload.id)
            raise Overtaken(f"{content.shard.batch} was over before a file of it was uploaded")
        seconds, name = time.monotonic() - started, shown_path(PurePath(paths[-1].name))
        logger.info(
            "%6.2fs ↑ %s/%s ● %.1f MB",
            seconds,
            content.shard.batch,
            name,
            reference.size / 1e6,
            extra={"event": "file_uploaded", "batch": content.shard.batch, "seconds": seconds, "bytes": reference.size},
        )
        found.append(upload)

    def _upload_of(self, file: UploadedFile) -> Upload:
        """An upload with its times; one that lives for less than two hours is used for half of that."""
        now = self._now()
        life = (file.expires_at or 0.0) - (file.created_at or now)
        life = life if life > 0 else LIFETIME
        return Upload(file.id, file.url, round(now + life), round(now + life - min(RENEW_BEFORE, life / 2)))

    def _is_fresh(self, upload: Upload) -> bool:
        return self._now() < upload.renew_at

    def _now(self) -> float:
        """The API's time."""
        return time.time() + self._replicate.clock_offset


def unfetched_ids(error: str) -> frozenset[str]:
    """The ids of uploads that an error names, if it says that something was not to be had."""
    said = _URL.sub("", error)
    found = (file_id_in(url) for url in _URL.findall(error)) if _NOT_THERE.search(said) else ()
    return frozenset(filter(None, found))


def _retrieve(task: asyncio.Task[Upload]) -> None:
    """Let asyncio not log the error of an upload that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
