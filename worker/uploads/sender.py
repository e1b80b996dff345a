"""Sends one local file to Replicate until it has it, whatever comes between; an upload may be repeated, it is free."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jobs.account.account import Account
from jobs.errors import AccountRefused, Blocked, InputFileError, NotSent, RateLimited, ReplicateError, Unanswered
from jobs.input_files.path_texts import shown_path
from jobs.input_files.reference import FileReference
from jobs.replicate_api.files import Files, UploadedFile
from worker.backoff import Backoff
from worker.limits.request_gate import RequestGate
from worker.outputs.media_types import media_type
from worker.telemetry.metrics import UPLOADED
from worker.uploads.local_file import LocalFile, opened, unusable

logger = logging.getLogger(__name__)

LOCAL_TRIES = 4
"""How often a file is read whose disk has an error that may pass."""

MOST_UNANSWERED = 6
"""So many uploads of a file that the API does not answer, while it answers those of others, are the file's fault."""

PATIENCE = 600.0
"""Seconds for which no upload at all may be answered, while the rest of the API answers, before it fails."""

AWAY = Backoff(cap=10.0)
TOKEN_PAUSE = 2.0
"""Seconds between two looks whether a refused token is accepted again."""


class Sent(NamedTuple):
    """An uploaded file; `doubled`: an earlier request had no answer and may have stored it, too."""

    file: UploadedFile
    doubled: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upload comes from, as its metadata says: its batch's id, and the nonce of the upload."""

    batch_id: str
    nonce: str

    def metadata(self, sha256: str) -> dict[str, str]:
        """What is stored with the file."""
        return {"sha256": sha256, "batch": self.batch_id, "upload": self.nonce}

    def is_of(self, file: UploadedFile) -> bool:
        """Whether a file of the list is this upload."""
        return file.metadata.get("batch") == self.batch_id and file.metadata.get("upload") == self.nonce


@dataclass(slots=True)
class _Passed:
    """How many uploads of the worker were answered."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Sender:
    """Uploads through the gate, as one of the account's other calls."""

    files: Files
    gate: RequestGate
    account: Account
    jitter: Callable[[], float] = random.random
    patience: float = PATIENCE
    passed: _Passed = field(default_factory=_Passed)

    async def send(self, paths: Sequence[Path], reference: FileReference, origin: Origin) -> Sent:
        """Upload the first of the paths that has the content of the reference; InputFileError when there is none.

        Holds, a refused token and an API that is away are waited out.
        """
        sending, passed = _Sending(paths[-1], self.jitter, self.patience), self.passed.count
        while True:
            if await self.account.paused_by() == "401":  # other pauses concern what costs money
                await asyncio.sleep(TOKEN_PAUSE)
                continue
            try:
                async with opened(paths, reference) as file:
                    return Sent(await self._upload(file, reference, origin), bool(sending.unanswered))
            except (OSError, ReplicateError) as error:
                pause = sending.pause_after(error, others_pass=self.passed.count > passed)
                if isinstance(error, Unanswered | Blocked) and (found := await self._find(reference, origin)):
                    return Sent(found, doubled=sending.unanswered > 1)
            await asyncio.sleep(pause)

    async def _upload(self, file: LocalFile, reference: FileReference, origin: Origin) -> UploadedFile:
        try:
            stored = await self._post(file, origin.metadata(reference.sha256))
            UPLOADED.inc(file.size)
        except ReplicateError:
            file.check()
            raise
        try:
            file.check()
            _refuse_other_bytes(stored, reference)
        except (OSError, InputFileError, Unanswered):
            await self.delete(stored.id)
            raise
        self.passed.count += 1
        return stored

    async def _post(self, file: LocalFile, metadata: dict[str, str]) -> UploadedFile:
        """Send a file; its block page holds no other reads back, as a firewall may dislike this content alone."""
        content_type = media_type(file.name, file.head)
        async with self.gate.request("read"):
            try:
                return await self.files.create(file.pieces(), file.size, file.name, content_type, metadata)
            except Blocked as error:
                blocked = error
        raise blocked

    async def delete(self, file_id: str) -> None:
        """Delete an upload that nobody uses; if that fails, it expires in a day."""
        try:
            async with self.gate.request("read"):
                await self.files.delete(file_id)
        except ReplicateError as error:
            logger.debug("upload %s is left to expire: %s", file_id, error)

    async def _find(self, reference: FileReference, origin: Origin) -> UploadedFile | None:
        """The upload whose answer was lost, if it is among the newest files; asked until the API answers."""
        tries = 0
        while True:
            try:
                async with self.gate.request("read"):
                    newest = (await self.files.list()).files
            except (RateLimited, AccountRefused, NotSent, Unanswered):
                tries += 1
                await asyncio.sleep(AWAY.delay(tries, self.jitter))
            except ReplicateError:
                return None
            else:
                mine = (one for one in newest if origin.is_of(one) and one.sha256 in (None, reference.sha256))
                return next(mine, None)


def _refuse_other_bytes(stored: UploadedFile, reference: FileReference) -> None:
    if stored.sha256 not in (None, reference.sha256):
        raise Unanswered("Replicate stored other bytes than were sent")


def is_hopeless(error: Exception, unanswered: int, *, others_pass: bool, is_late: bool) -> bool:
    """Whether an upload that was not answered so often is given up: not while it may be the API that is in trouble."""
    return unanswered >= MOST_UNANSWERED and (isinstance(error, Blocked) or others_pass or is_late)


@dataclass(slots=True)
class _Sending:
    """What has come between so far; `path` is the file's, for messages."""

    path: Path
    jitter: Callable[[], float]
    patience: float
    started: float = field(default_factory=time.monotonic)
    tries: int = 0
    local: int = 0
    unanswered: int = 0

    def pause_after(self, error: OSError | ReplicateError, *, others_pass: bool) -> float:
        """Seconds until the next try; InputFileError when another one is pointless."""
        self.tries += 1
        shown = shown_path(self.path)
        self.local += isinstance(error, OSError)
        self.unanswered += isinstance(error, Unanswered | Blocked)
        if isinstance(error, OSError):
            if self.local == LOCAL_TRIES:
                raise unusable(Path(error.filename or self.path), error) from error
        elif not isinstance(error, RateLimited | AccountRefused | NotSent | Unanswered):
            raise InputFileError(f"{shown} cannot be uploaded: {error}") from error
        elif is_hopeless(error, self.unanswered, others_pass=others_pass, is_late=self._is_late):
            raise InputFileError(f"{shown} could not be uploaded in {self.tries} tries: {error}") from error
        logger.info("? %s is not uploaded, retrying: %s", shown, error)
        return 0.0 if isinstance(error, RateLimited) else AWAY.delay(self.tries, self.jitter)

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self.started > self.patience
