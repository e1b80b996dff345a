"""FileOutput: one output file of a prediction, read in chunks of bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePosixPath
from urllib.parse import unquote

import httpx

from jobs.config import REPLICATE_HOSTS
from jobs.errors import BrokenDownload
from worker.outputs import data_uri
from worker.outputs.data_uri import DataUri
from worker.outputs.file_host import SLOW_SECONDS, file_client, open_file
from worker.outputs.file_response import FileResponse

DATA_CHUNK = 1 << 16


class FileOutput:
    """One output file, on an output host or in a `data:` URI; `str()` is its URL.

    Without a client it opens one for each reading. Reading raises the errors of `jobs.errors.OutputError`.
    `content_type` and `length` (bytes) are known from the first answer on. A transfer that has brought almost nothing
    after `slow_after` seconds of waiting is given up.
    """

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient | None = None,
        *,
        hosts: Sequence[str] = REPLICATE_HOSTS,
        slow_after: float = SLOW_SECONDS,
    ) -> None:
        self.url = url
        self.content_type: str | None = None
        self.length: int | None = None
        self._client = client
        self._hosts = hosts
        self._slow_after = slow_after
        self._data = data_uri.parse(url) if url[:5].lower() == "data:" else None
        if self._data:
            self.content_type, self.length = self._data.content_type, len(self._data.content)

    @property
    def address(self) -> str:
        """The URL, of a `data:` URI only what stands before its bytes."""
        return self._data.head if self._data else self.url

    @property
    def name(self) -> str:
        """A file name taken from the URL, never a path: letters, digits, `.`, `_` and `-`; "output" without one."""
        place = "" if self._data else re.split("[?#]", self.url, maxsplit=1)[0]
        path = unquote(place.partition("://")[2].partition("/")[2])
        return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(path).name).lstrip(".-")[-128:] or "output"

    @asynccontextmanager
    async def open(self, headers: Mapping[str, str] | None = None) -> AsyncIterator[FileResponse]:
        """Ask for the file, or with a `Range` header for a part of it."""
        async with AsyncExitStack() as stack:
            if self._data:
                yield _data_answer(self._data)
                return
            client = self._client
            if client is None:
                client = await stack.enter_async_context(file_client())
            opened = open_file(client, self.url, hosts=self._hosts, headers=headers, slow_after=self._slow_after)
            answer = await stack.enter_async_context(opened)
            if answer.status != 416:
                self.content_type, self.length = answer.content_type, answer.length
            yield answer

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with self.open() as answer:
            if answer.status != 200:
                raise BrokenDownload(f"{self.url[:200]}: the file host answers {answer.status}", self.url)
            async for chunk in answer.chunks:
                yield chunk

    async def aread(self) -> bytes:
        """Return the whole file."""
        return b"".join([chunk async for chunk in self])

    def __iter__(self) -> Iterator[bytes]:
        # A client belongs to its event loop; this one runs in a thread, so that a loop may run here.
        alone = FileOutput(self.url, hosts=self._hosts, slow_after=self._slow_after)
        with ThreadPoolExecutor(1) as thread:
            runner, chunks = asyncio.Runner(), aiter(alone)
            try:
                while (chunk := thread.submit(runner.run, _next(chunks)).result()) is not None:
                    self.content_type, self.length = alone.content_type, alone.length
                    yield chunk
            finally:
                thread.submit(runner.run, _close(chunks)).result()
                thread.submit(runner.close).result()

    def read(self) -> bytes:
        """Return the whole file; also inside a running event loop, which it blocks."""
        return b"".join(self)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"FileOutput({self.url if len(self.url) <= 200 else f'{self.url[:100]}…'!r})"


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(chunks, None)


async def _close(chunks: AsyncGenerator[bytes, None]) -> None:
    await chunks.aclose()


def _data_answer(data: DataUri) -> FileResponse:
    headers = {"content-type": data.content_type, "content-length": str(len(data.content))}
    return FileResponse(200, headers, _pieces(data.content))


async def _pieces(content: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), DATA_CHUNK):
        yield content[start : start + DATA_CHUNK]
