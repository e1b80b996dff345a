"""Finishing a batch takes minutes when it is long: the worker goes on, and can stop, meanwhile."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.events.event import read_events
from jobs.wire import Batch, Prompt, Shard
from worker.context import Context
from worker.shard.finish import finish_batch

LEASE = 1.0
SHARD = Shard("night", "b1", 0, 0, ())
RECORD = {"id": "cat", "index": 0, "status": "succeeded", "model": "owner/model", "input": {}}


@pytest.fixture
async def worker(open_worker: Callable[..., Awaitable[Context]]) -> Context:
    return await open_worker(lease=LEASE)


class SlowRecord:
    """A batch of one settled prompt, whose record is a pipe: reading it takes until somebody writes there."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        folder.prompt("cat").mkdir()
        self.path = folder.prompt("cat") / "prediction.json"
        os.mkfifo(self.path)

    def begun(self) -> bool:
        return any(self.folder.path.glob(".results.jsonl.*.part"))

    def give(self, after: float = 0.0) -> threading.Thread:
        def write() -> None:
            time.sleep(after)
            self.path.write_text(json.dumps(RECORD))

        thread = threading.Thread(target=write)
        thread.start()
        return thread


@pytest.fixture
async def slow(worker: Context, open_batch: Callable[..., Awaitable[Batch]]) -> SlowRecord:
    await open_batch(worker, Prompt(0, "cat", "owner/model", {}))
    await worker.batches.settle("night", 0, "succeeded")
    return SlowRecord(Folder(worker.config.output_dir, "night"))


async def test_a_worker_keeps_its_leases_while_it_writes_for_longer_than_they_last(
    worker: Context, slow: SlowRecord
) -> None:
    lease = await worker.leases.acquire("another", "")
    assert lease
    writer = slow.give(after=3 * LEASE)
    assert await worker.leases.run(lease, finish_batch(worker, SHARD))
    writer.join()
    assert not lease.lost
    assert (await worker.batches.get("night")).finished_at
    assert json.loads(slow.folder.results.read_text())["id"] == "cat"
    assert "cat" in slow.folder.gallery.read_text()
    (event,) = read_events(slow.folder)
    assert (event.event, event.message) == ("finished", "1 succeeded, 0 failed, 0 canceled")


async def test_a_worker_that_stops_lets_nobody_else_write_before_it_has_stopped_writing(
    worker: Context, slow: SlowRecord, eventually: Callable[..., Any]
) -> None:
    finishing = asyncio.create_task(finish_batch(worker, SHARD))
    await eventually(slow.begun)
    finishing.cancel()
    for _ in range(10):  # more turns of the loop and of its threads than an end would take
        await asyncio.to_thread(lambda: None)
    assert not finishing.done()
    with (slow.folder.path / ".lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    writer = slow.give()
    await asyncio.wait([finishing])
    writer.join()
    assert finishing.cancelled()
    assert names(slow.folder.path) == [".lock", "batch.json", "cat", "prompts.jsonl"], "nothing half-written is left"
    assert (await worker.batches.get("night")).finished_at is None


async def test_a_folder_that_is_replaced_meanwhile_gets_nothing(
    worker: Context, slow: SlowRecord, eventually: Callable[..., Any]
) -> None:
    finishing = asyncio.create_task(finish_batch(worker, SHARD))
    await eventually(slow.begun)
    slow.folder.manifest.write_text('{"batch": "night", "id": "b2", "realm": "main", "created_at": 1.0}')
    writer = slow.give()
    assert "another batch's folder" in await eventually(lambda: worker.folders.own_trouble(slow.folder.path))
    writer.join()
    assert not slow.folder.results.exists()
    assert (await worker.batches.get("night")).finished_at is None
    finishing.cancel()


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())
