from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from jobs.batch_folder.folder import RECORD, Folder
from jobs.config import Config
from jobs.dashboard.index import indexes as indexes_module
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.pages import Dashboard
from jobs.dashboard.server import access_for, create_server, listen
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Result

BATCH_ID = "5ab1e5"


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are as current as what they are made from."""
    monkeypatch.setattr(indexes_module, "FRESH", 0.0)


class Night:
    """A batch named `night` in a folder and in Redis, whose prompts end as a test says."""

    def __init__(self, redis: Redis, folder: Folder) -> None:
        self._redis, self.folder, self.batch_id = redis, folder, BATCH_ID
        folder.path.mkdir(parents=True)
        folder.manifest.write_text(json.dumps({"batch": "night", "id": BATCH_ID, "realm": "api", "created_at": 1.0}))

    def write_rows(self, *rows: dict[str, Any]) -> None:
        """Replace the batch's own copy."""
        part = self.folder.path / "new"
        part.write_text("".join(json.dumps({"id": row["id"], "model": "a/b", **row}) + "\n" for row in rows))
        part.rename(self.folder.prompts)

    async def open(self, total: int) -> None:
        """Let Redis know the batch."""
        await Batches(self._redis).open(Batch("night", BATCH_ID, "api", 1.0, total, 0, 1.0))

    def write_record(self, index: int, prompt_id: str, status: str = "succeeded", **fields: Any) -> Path:
        """Write a prompt's record, as a commit does; returns its folder."""
        result = Result.model_validate(
            {"id": prompt_id, "index": index, "status": status, "model": "a/b", "input": {"prompt": prompt_id}} | fields
        )
        directory = self.folder.prompt(prompt_id)
        directory.mkdir()
        (directory / RECORD).write_text(result.model_dump_json())
        return directory

    async def end(self, index: int, prompt_id: str, status: str = "succeeded", **fields: Any) -> None:
        """Commit and settle a prompt."""
        self.write_record(index, prompt_id, status, **fields)
        await self.settle(index, status)

    async def settle(self, index: int, status: str = "succeeded") -> None:
        """Settle a prompt in Redis."""
        await Batches(self._redis).settle("night", index, status, self.batch_id)  # type: ignore[arg-type] # any outcome


@pytest.fixture
def night(config: Config, redis: Redis) -> Night:
    """A batch named `night` without rows."""
    return Night(redis, Folder(config.output_dir, "night"))


class Browser(httpx.AsyncClient):
    """A browser without scripts: it keeps cookies, and sends what a page's scripts would."""

    def __init__(self, url: str, stop_server: Callable[[], Awaitable[None]]) -> None:
        self.stop_server = stop_server
        super().__init__(base_url=url, headers={"sec-fetch-site": "same-origin"})

    async def press(self, path: str, page: str = "/", **values: Any) -> httpx.Response:
        """Send what a button on a page sends."""
        found = await self.get(page)
        (token,) = re.findall(r'"x-csrf-token": "([^"]*)"', found.text)
        return await self.post(path, data=values, headers={"x-csrf-token": token})

    async def events(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what the server sends of a page's parts."""
        async with self.stream("GET", path) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))


@pytest.fixture
async def serve_dashboard(config: Config, redis: Redis) -> AsyncIterator[Callable[..., Awaitable[Browser]]]:
    """Start dashboards, and return a browser for each."""
    async with AsyncExitStack() as stack:

        async def start(host: str = "127.0.0.1", *, read_only: bool = False, port: int = 0, **settings: Any) -> Browser:
            changed = config.model_copy(update={"dashboard_dir": config.output_dir.parent / ".dashboard", **settings})
            listener = listen("127.0.0.1", port)
            stack.push(listener)
            server = create_server(Dashboard(changed, redis, access_for(changed, host, read_only=read_only)))
            task = asyncio.create_task(server.serve([listener]))
            stack.push_async_callback(_stop, server, task)
            browser = Browser(f"http://127.0.0.1:{listener.getsockname()[1]}", partial(_stop, server, task))
            return await stack.enter_async_context(browser)

        yield start


async def _stop(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    server.should_exit = True
    await task


@pytest.fixture
async def browser(serve_dashboard: Callable[..., Awaitable[Browser]]) -> Browser:
    """A browser at a dashboard."""
    return await serve_dashboard()


@pytest.fixture
def indexes(config: Config, redis: Redis, tmp_path: Path) -> Iterator[Indexes]:
    """The stores of a dashboard."""
    found = Indexes(tmp_path / ".dashboard", config.output_dir, redis)
    yield found
    found.close()
