from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.wire import Batch, Prompt, Shard
from worker.context import Context
from worker.lifecycle import open_context
from worker.limits.batch_limiter import BatchConcurrencyLimit
from worker.timing import Timing

QUICK = {"creates_per_minute": 60_000.0, "poll_interval": 0.1}


@pytest.fixture
def timing() -> Timing:
    """The delays of the test's workers, for a module or a test to override."""
    return Timing()


@pytest.fixture
async def open_worker(config: Config, timing: Timing) -> AsyncIterator[Callable[..., Awaitable[Context]]]:
    """`await open_worker(max_attempts=2)`: a worker without waits, until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Context:
            return await stack.enter_async_context(open_context(config.model_copy(update=QUICK | settings), timing))

        yield start


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Callable[[BatchConcurrencyLimit], Counter[int]]:
    """`refusals(limiter)[3]`: how often the third prompt has asked for a place since, in vain."""

    def count(limiter: BatchConcurrencyLimit) -> Counter[int]:
        refused, original = Counter[int](), limiter.try_acquire

        async def try_acquire(shard: Shard, index: int) -> bool:
            granted = await original(shard, index)
            refused[index] += not granted
            return granted

        monkeypatch.setattr(limiter, "try_acquire", try_acquire)
        return refused

    return count


@pytest.fixture
def make_folder(config: Config) -> Callable[..., Folder]:
    """`make_folder(CAT, DOG, batch_id="b2")`: the folder of a batch of these prompts."""

    def make(*prompts: Prompt, batch: str = "night", batch_id: str = "b1") -> Folder:
        folder = Folder(config.output_dir, batch)
        folder.path.mkdir(parents=True)
        manifest = {"batch": batch, "id": batch_id, "realm": config.api_host, "created_at": 1.0}
        folder.manifest.write_text(json.dumps(manifest))
        rows = [{"id": prompt.id, "model": prompt.model, "input": prompt.input} for prompt in prompts]
        folder.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make


@pytest.fixture
def open_batch(make_folder: Callable[..., Folder]) -> Callable[..., Awaitable[Batch]]:
    """`await open_batch(worker, CAT, DOG)`: a batch of these prompts, or of as many as `total`, and its folder."""

    async def begin(
        worker: Context, *prompts: Prompt, total: int = 0, batch: str = "night", batch_id: str = "b1"
    ) -> Batch:
        make_folder(*prompts, batch=batch, batch_id=batch_id)
        api_host, total = worker.config.api_host, total or len(prompts)
        return await worker.batches.open(Batch(batch, batch_id, api_host, 1.0, total, 0, 1.0))

    return begin
