"""The uploads of a batch's local files: which one inputs use, and which are to be deleted at the batch's end.

An upload goes: begin → POST → record → use. It is recorded before any input has its URL, so that a search knows the
ids of whatever a prediction may have been sent. At the end: retire → DELETE → forget, for each file, and close.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis

RETIRED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that inputs may use; from `renew_at` on the file is uploaded again. Unix seconds by the API's clock."""

    id: str
    url: str
    expires_at: int
    renew_at: int


@dataclass(frozen=True, slots=True)
class FileUploads:
    """All uploads of one content; `lost` are nonces of those that nobody recorded, or that may be there twice."""

    sha256: str
    current: Upload | None
    earlier: tuple[str, ...]
    deleted: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        """All ids that a prediction's input may name."""
        return frozenset((*self.earlier, *self.deleted, *([self.current.id] if self.current else ())))

    @classmethod
    def parse(cls, sha256: str, text: bytes) -> Self:
        """Read a field of the hash."""
        entry = json.loads(text)
        current = Upload(*(entry[name] for name in Upload.__slots__)) if "id" in entry else None
        return cls(sha256, current, *(tuple(entry[name].split()) for name in ("earlier", "deleted", "lost")))


@dataclass(frozen=True, slots=True)
class BatchUploads:
    """The uploads of one batch."""

    redis: Redis
    batch: str
    batch_id: str

    async def read(self, contents: Sequence[str]) -> dict[str, FileUploads]:
        """What there is of files with these sha256."""
        texts = await self.redis.hmget(keys.uploads(self.batch), list(contents)) if contents else []
        pairs = zip(contents, texts, strict=True)
        return {sha256: FileUploads.parse(sha256, text) for sha256, text in pairs if text}

    async def begin(self, sha256: str) -> str | None:
        """Note that an upload is about to be made, and return its nonce; None when the batch is over."""
        nonce = secrets.token_hex(8)
        return nonce if await self._change("begin", sha256, nonce) else None

    async def record(self, sha256: str, nonce: str, upload: Upload, *, doubled: bool) -> bool:
        """Note an upload, which inputs use from now on; False when it is not wanted any more and must be deleted."""
        return bool(await self._change("record", sha256, nonce, json.dumps(asdict(upload)), int(doubled)))

    async def drop(self, sha256: str, upload: Upload) -> None:
        """Use an upload no more, as it is not there any more."""
        await self._change("drop", sha256, upload.id)

    async def retire(self) -> AsyncIterator[FileUploads]:
        """Take all uploads out of use and yield them; none unless the batch is finished."""
        found = self.redis.hscan_iter(keys.uploads(self.batch))
        contents = list({sha256.decode(): None async for sha256, _ in found})  # a scan may yield one twice
        for start in range(0, len(contents), RETIRED_AT_ONCE):
            some = contents[start : start + RETIRED_AT_ONCE]
            for sha256, text in zip(some, await self._change("retire", *some), strict=False):
                yield FileUploads.parse(sha256, text)

    async def forget(self, uploads: FileUploads) -> None:
        """Note that retired uploads are deleted."""
        await self._change("forget", uploads.sha256, " ".join(uploads.earlier), " ".join(uploads.lost))

    async def close(self, last: str) -> None:
        """Note that all uploads are deleted; `last` is the batch's `uploads` as it was before."""
        await self._change("close", last)

    async def _change(self, op: str, *arguments: Any) -> list[bytes]:
        names = [keys.uploads(self.batch), keys.batch(self.batch)]
        found: list[bytes] = await load_script(self.redis, __name__)(names, [op, self.batch_id, *arguments])
        return found


async def upload_ids(redis: Redis, batch: str) -> dict[str, frozenset[str]]:
    """The ids of all uploads of a batch, by sha256."""
    found = await redis.hgetall(keys.uploads(batch))
    return {sha256.decode(): FileUploads.parse(sha256.decode(), text).ids for sha256, text in found.items()}
