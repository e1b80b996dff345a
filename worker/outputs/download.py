"""One file on its way from its host to disk, over as many transfers as it takes."""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from jobs.errors import BrokenDownload, FileTooBig
from jobs.secret_inputs import NO_SECRETS, Masking
from worker.outputs.file_host import SLOW_SECONDS
from worker.outputs.file_output import FileOutput
from worker.outputs.file_response import Checksum, FileResponse
from worker.outputs.file_writer import FileWriter, WrittenFile
from worker.outputs.media_types import contradiction, extension
from worker.telemetry.metrics import DOWNLOADED

logger = logging.getLogger(__name__)

TRIES = 8
"""Transfers in a row that bring the file no further, before it is given up."""

SAME_BYTES = 3
"""Transfers that bring the same bytes, after which they are right, and the checksum that the host gives is wrong."""

LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The delays of downloads that tests shorten, in seconds."""

    jitter: Callable[[], float] = random.random
    """Where in its range a pause lies, from 0 to 1."""

    first_pause: float = 0.5
    """The longest first pause after a transfer that broke."""

    slow_after: float = SLOW_SECONDS
    """A transfer that has brought almost nothing after so long a wait is given up."""

    def pause(self, failures: int) -> float:
        """The pause before the next transfer: doubled with each failure, the upper half of it random."""
        return min(LONGEST_PAUSE, self.first_pause * 2.0 ** (failures - 1)) * (1 + self.jitter()) / 2


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A whole file; `checked`: it has the checksum that its host gives (None: no such), `warning`: what is strange."""

    written: WrittenFile
    checked: bool | None = None
    warning: str | None = None


@dataclass(slots=True)
class Download:
    """Streams, checks and resumes one file; `slot` is held while bytes flow, not while it waits.

    `kept_until` (Unix seconds) is when the host may delete it: what breaks after that is not retried.
    """

    file: FileOutput
    writer: FileWriter
    max_bytes: int
    slot: AbstractAsyncContextManager[None]
    kept_until: float = math.inf
    masking: Masking = NO_SECRETS
    _whole: FileResponse | None = field(default=None, init=False)
    _rejected: Counter[str] = field(default_factory=Counter, init=False)
    _warned: str | None = field(default=None, init=False)

    async def run(self, wait: Callable[[int], Awaitable[None]]) -> DownloadedFile:
        """Bring the whole file to disk; `wait` is given how many transfers have failed in a row.

        Raises FileRefused, FileTooBig and OutputGone at once, BrokenDownload after 8 fruitless transfers or one that
        is too late, StorageError.
        """
        failures = farthest = 0
        while True:
            try:
                async with self.slot:
                    return await self._transfer()
            except BrokenDownload as error:
                failures = failures + 1 if error.slow or self.writer.bytes <= farthest else 1
                farthest = max(farthest, self.writer.bytes)
                if failures == TRIES or time.time() > self.kept_until:
                    raise
                self.masking.mask_error(error)
                logger.info("↻ %s; %d bytes are here", error, self.writer.bytes)
            await wait(failures)

    async def _transfer(self) -> DownloadedFile:
        async with self.file.open(self._range()) as answer:
            whole = await self._begin(answer)
            async for chunk in answer.chunks:
                DOWNLOADED.inc(len(chunk))
                self._check_size(self.writer.bytes + len(chunk))
                await self.writer.write(chunk)
        return await self._finish(whole)

    def _range(self) -> dict[str, str]:
        """Ask for the rest only, provided that the file is still the same."""
        if self._whole is None or self._whole.validator is None or not self.writer.bytes:
            return {}
        return {"Range": f"bytes={self.writer.bytes}-", "If-Range": self._whole.validator}

    async def _begin(self, answer: FileResponse) -> FileResponse:
        """Go on where the last transfer broke, or start again; return the answer that described the whole file."""
        self._check_size(answer.length or 0)
        if self._whole and self._continues(self._whole, answer):
            return self._whole
        self._whole = None
        if answer.status != 200:
            await self.writer.restart()
            raise self._broken(f"the file host answers {answer.status} and cannot go on")
        await self.writer.restart(answer.checksum)
        self._whole = answer
        return answer

    def _continues(self, whole: FileResponse, answer: FileResponse) -> bool:
        same = answer.validator in (None, whole.validator) and not answer.repacked
        return answer.status == 206 and same and bool(self.writer.bytes) and answer.start == self.writer.bytes

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise FileTooBig(f"{self.file.url[:200]} has more than {self.max_bytes:,} bytes", self.file.url)

    async def _finish(self, whole: FileResponse) -> DownloadedFile:
        """Check length, checksum and nature; download again what is wrong, keep what stays strange with a warning."""
        suffix = extension(self.file.name, whole.content_type, self.writer.head)
        self._whole = None
        if whole.length not in (None, self.writer.bytes):
            raise self._broken(f"it has {self.writer.bytes} bytes instead of {whole.length}")
        warning = contradiction(self.file.name, whole.content_type, self.writer.head)
        if warning and warning != self._warned:
            self._warned = warning
            raise self._broken(f"it {warning}")
        return await self._finish_checked(whole.checksum, suffix, warning)

    async def _finish_checked(self, checksum: Checksum | None, suffix: str, warning: str | None) -> DownloadedFile:
        if written := await self.writer.finish(suffix):
            return DownloadedFile(written, checked=True if checksum else None, warning=warning)
        self._rejected[self.writer.sha256] += 1
        times, sure = self._rejected[self.writer.sha256], checksum is None or checksum.sure
        if times >= (SAME_BYTES if sure else 2) and (written := await self.writer.finish(suffix, check=False)):
            # An ETag that looked like an md5 is none; a checksum that was declared should have been right.
            wrong = "has another checksum than its host gives" if sure else None
            return DownloadedFile(written, checked=False if sure else None, warning=warning or wrong)
        raise self._broken(
            f"its {checksum.algorithm if checksum else 'checksum'} is not the one that the file host gives"
        )

    def _broken(self, why: str) -> BrokenDownload:
        return BrokenDownload(f"{self.file.url[:200]}: {why}", self.file.url)
