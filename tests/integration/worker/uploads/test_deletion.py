from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.redis_client import keys
from jobs.state.batches import Batches
from jobs.wire import Batch, Prompt, Shard
from tests.integration.worker.prompt.works import filed_work, refer_to
from worker.context import Context
from worker.lifecycle import open_context
from worker.prompt.predict import predict
from worker.shard.finish import finish_batch, finish_left_over
from worker.timing import Timing

SHARD = Shard("night", "b1", 0, 0, ())


@pytest.fixture
def timing() -> Timing:
    return Timing(jitter=lambda: 0.0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.txt" for name in ("cat", "dog")]
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.fixture
async def worker(
    simulator: Any,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
    files: list[Path],
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1)
    worker = await open_worker()
    prompts = [filed_work(worker, index, path).prompt for index, path in enumerate(files)]
    await open_batch(worker, *prompts)
    return worker


async def run(worker: Context, *paths: Path) -> None:
    for index, path in enumerate(paths):
        await predict(filed_work(worker, index, path))


def left(simulator: Any) -> int:
    return int(simulator.ledger(summary=True)["uploads_left"])


async def is_closed(worker: Context) -> bool:
    batch = await worker.batches.get("night")
    return batch.finished_at is not None and batch.uploads is None


async def test_nothing_is_left_after_the_end(
    worker: Context, simulator: Any, files: list[Path], eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await run(worker, files[0])
    await finish_batch(worker, SHARD)
    assert left(simulator) == 1, "a prompt is unsettled"
    await run(worker, *files)
    await finish_batch(worker, SHARD)
    await eventually(lambda: is_closed(worker))
    assert (left(simulator), "deleted 2 uploads" in caplog.text) == (0, True)


async def test_what_nobody_recorded_is_deleted_too_and_nothing_of_others(
    worker: Context, simulator: Any, files: list[Path], eventually: Callable[..., Any]
) -> None:
    work = filed_work(worker, 0, files[0])
    records, sender = worker.uploads.records(work.shard), worker.uploads.sender
    killed = await records.begin(refer_to(files[0])["sha256"])

    async def content() -> Any:
        yield b"cat.txt"

    for metadata in ({"batch": "b1", "upload": killed}, {"batch": "b2", "upload": killed}, {"batch": "b1"}, {}):
        await sender.files.create(content(), 7, "a", "text/plain", metadata)
    await run(worker, *files)
    await finish_batch(worker, SHARD)
    await eventually(lambda: is_closed(worker))
    ledger = simulator.ledger()
    assert [row["id"] for row in ledger["uploads"] if row["deleted_at"] is None] == [
        row["id"] for row in ledger["uploads"][1:4]
    ]


async def test_they_are_kept_if_the_owner_wants_so(
    worker: Context, simulator: Any, files: list[Path], eventually: Callable[..., Any]
) -> None:
    folder = Folder(worker.config.output_dir, "night")
    folder.manifest.write_text(json.dumps(json.loads(folder.manifest.read_text()) | {"keep_uploads": True}))
    await run(worker, *files)
    await finish_batch(worker, SHARD)
    await eventually(lambda: is_closed(worker))
    assert left(simulator) == 2
    await reopen(worker)
    await worker.uploads.ensure(SHARD, filed_work(worker, 0, *files).prompt, folder.path, 0.0)
    assert left(simulator) == 2


async def reopen(worker: Context) -> None:
    """As `retry` does."""
    async with worker.redis.pipeline(transaction=True) as pipe:
        await worker.batches.unsettle("night", 0, "succeeded", pipe)
        await pipe.execute()
    await Batches(worker.redis).reopen("night", 1)


async def test_a_retry_uploads_again(
    worker: Context, simulator: Any, files: list[Path], eventually: Callable[..., Any]
) -> None:
    await run(worker, *files)
    await finish_batch(worker, SHARD)
    await eventually(lambda: is_closed(worker))
    await reopen(worker)
    again = filed_work(worker, 0, files[0])
    uploads = await worker.uploads.ensure(again.shard, again.prompt, again.folder.path, 0.0)
    assert left(simulator) == 1
    assert uploads.keys() == {refer_to(files[0])["sha256"]}
    await worker.batches.settle("night", 0, "succeeded")
    await finish_batch(worker, SHARD)
    await eventually(lambda: is_closed(worker))
    assert left(simulator) == 0


async def test_a_deletion_that_fails_is_tried_again(
    worker: Context, simulator: Any, files: list[Path], eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    await run(worker, *files)
    simulator.control(error={"rate": 1.0, "kinds": ["files"], "status": 502})
    await finish_batch(worker, SHARD)
    await eventually(lambda: "will be retried" in caplog.text)
    assert left(simulator) == 2
    assert not await is_closed(worker)
    simulator.clear()
    await finish_left_over(worker, set())
    await eventually(lambda: is_closed(worker))
    assert left(simulator) == 0


async def test_another_worker_deletes_what_a_killed_one_left(
    worker: Context,
    open_worker: Callable[..., Awaitable[Context]],
    simulator: Any,
    files: list[Path],
    eventually: Callable[..., Any],
) -> None:
    """It was killed after it had deleted one, and before it had noted that."""
    await run(worker, *files)
    await worker.batches.finish("night")
    await worker.uploads.sender.delete(simulator.ledger()["uploads"][0]["id"])
    assert left(simulator) == 1
    simulator.control(throttle={"next": 1, "kinds": ["files"], "seconds": 1})
    await finish_left_over(await open_worker(), set())
    await eventually(lambda: is_closed(worker))
    assert left(simulator) == 0


async def test_a_worker_that_stops_deletes_first(
    simulator: Any, worker: Context, timing: Timing, files: list[Path]
) -> None:
    """As a burst worker does after its last batch."""
    await run(worker, *files)
    await worker.batches.finish("night")
    async with open_context(worker.config, timing) as other:
        other.uploads.deletion.note(await worker.batches.get("night"))
    assert (left(simulator), await is_closed(worker)) == (0, True)


async def test_a_batch_without_files_asks_nothing(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    simulator.settings(limiter="off")
    worker = await open_worker()
    await open_batch(worker, Prompt(0, "cat", "simulator/text", {"prompt": "cat"}))
    await worker.batches.settle("night", 0, "canceled")
    await worker.batches.finish("night")
    await finish_left_over(worker, set())
    assert await is_closed(worker)
    assert not await worker.redis.exists(keys.uploads("night"))
