"""One batch's folder is in trouble: its own prompts wait, with the reason in `status`, and no other batch does."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from arq.worker import RetryJob

from jobs.batch_folder.folder import Folder
from jobs.state.status import read_status
from jobs.wire import Batch, Prompt, Shard
from worker.context import Context
from worker.outputs import disk
from worker.shard.run import run_shard
from worker.timing import Timing

INPUT = {"prompt": "cat", "width": 16, "height": 16, "output_format": "png"}
BAD, GOOD = (
    Shard(name, f"id-of-{name}", 0, 0, tuple(Prompt(n, f"p{n}", "simulator/image", INPUT) for n in range(3)))
    for name in ("bad", "good")
)


@pytest.fixture
def timing() -> Timing:
    return Timing(jitter=lambda: 0.01, folder_check=0.1, folder_retry=0.1)


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=0.3, predict_max=0.4, loose=0.0)
    worker = await open_worker()
    for shard in (BAD, GOOD):
        await open_batch(worker, *shard.prompts, batch=shard.batch, batch_id=shard.batch_id)
    return worker


def folder(worker: Context, shard: Shard) -> Folder:
    return Folder(worker.config.output_dir, shard.batch)


async def reasons(worker: Context, shard: Shard) -> list[str]:
    return (await read_status(worker.redis, await worker.batches.get(shard.batch))).reasons


def take_away(folder: Folder) -> Callable[[], object]:
    away = folder.path.rename(folder.path.with_name("away"))
    return lambda: away.rename(folder.path)


def stand_in_the_way_of_files(folder: Folder) -> Callable[[], object]:
    obstacle = folder.path / ".saving"
    obstacle.write_text("in the way")
    return obstacle.unlink


def stand_in_the_way_of_results(folder: Folder) -> Callable[[], object]:
    (folder.results / "x").mkdir(parents=True)

    def remove() -> None:
        (folder.results / "x").rmdir()
        folder.results.rmdir()

    return remove


TROUBLES = {
    "is gone": take_away,
    "cannot be written": stand_in_the_way_of_files,
    "results.jsonl": stand_in_the_way_of_results,
}


@pytest.mark.parametrize("sentence", TROUBLES)
async def test_one_batchs_trouble_holds_back_no_other(
    worker: Context, simulator: Any, eventually: Callable[..., Any], sentence: str
) -> None:
    worker.folders.seen.add(BAD.batch_id)
    repair = TROUBLES[sentence](folder(worker, BAD))
    bad = asyncio.create_task(run_shard(worker, BAD))

    async def is_told() -> bool:
        return any(sentence in reason for reason in await reasons(worker, BAD))

    await eventually(is_told)
    assert await worker.account.trouble() is None
    assert not any(sentence in reason for reason in await reasons(worker, GOOD))
    await run_shard(worker, GOOD)
    batch = await worker.batches.get("good")
    assert (batch.succeeded, batch.finished_at is not None) == (3, True)
    assert not bad.done()
    repair()
    await bad
    batch = await worker.batches.get("bad")
    assert (batch.succeeded, batch.finished_at is not None, simulator.ledger()["created"]) == (3, True, 6)
    await eventually(lambda: not worker.folders.own_troubles())


async def test_a_full_disk_holds_back_all(
    worker: Context, simulator: Any, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = disk.write_all, [True]

    def fill(*arguments: Any) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*arguments)

    monkeypatch.setattr(disk, "write_all", fill)
    bad = asyncio.create_task(run_shard(worker, BAD))
    assert "the disk is full" in await eventually(worker.account.trouble)
    full[0] = False
    await bad
    assert simulator.ledger()["created"] == 3


@pytest.mark.parametrize("sentence", ["is gone", "results.jsonl"])
async def test_a_shard_that_waits_for_its_folder_gives_its_slot_to_another(worker: Context, sentence: str) -> None:
    worker.folders.seen.add(BAD.batch_id)
    TROUBLES[sentence](folder(worker, BAD))
    running = asyncio.create_task(run_shard(worker, BAD))

    async def leave() -> None:
        while not running.done():
            for slot in worker.job_slots._slots:  # noqa: SLF001 - it takes 15 s, and a full worker
                slot.must_yield = bool(slot.waits)
            await asyncio.sleep(0.05)

    leaving = asyncio.create_task(leave())
    with pytest.raises(RetryJob):
        await running
    await leaving
    assert (await worker.batches.get("bad")).finished_at is None
