from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.config import Config
from jobs.enqueue import enqueue as enqueue_module
from jobs.enqueue.enqueue import Order, Receipt, enqueue, retry
from jobs.errors import ForeignFolder, InputError, StorageError
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import PatientPool, Redis, RetryWindow
from jobs.state.batches import Batches
from tests.imports import loaded_by
from tests.integration.jobs.enqueue.night import queued, write

ROOT = Path(__file__).parents[4]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write(tmp_path / "night.jsonl", range(950))


async def assert_complete(redis: Redis, folder: Folder, ids: set[str]) -> None:
    """Copy and queue have every prompt once, and Redis knows how many there are."""
    rows = list(read_copy(folder))
    assert Counter(row.id for row in rows) == Counter(ids)
    assert [row.index for row in rows] == list(range(len(ids)))
    waiting = [prompt for shard in (await queued(redis)).values() for prompt in shard.prompts]
    assert sorted(waiting, key=lambda prompt: prompt.index) == rows
    assert (await Batches(redis).get("night")).total == len(ids)
    assert [path.name for path in folder.output_dir.iterdir()] == ["night"]
    assert {path.name for path in folder.path.iterdir()} == {".lock", "batch.json", "prompts.jsonl"}


@asynccontextmanager
async def cut_after(url: str, budget: int) -> AsyncIterator[str]:
    """A way to Redis that breaks for good once `budget` bytes went through it."""
    writers: list[asyncio.StreamWriter] = []
    left = budget

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        nonlocal left
        while data := await reader.read(1024):
            left -= len(data) if counts else 0
            if left < 0:
                break
            writer.write(data)
            await writer.drain()
        for open_writer in writers:
            open_writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if left < 0:
            writer.close()
            return
        down, up = await asyncio.open_unix_connection(unquote(urlsplit(url).path))
        writers.extend((writer, up))
        await asyncio.gather(pump(reader, up, counts=True), pump(down, writer, counts=False), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("budget", [0, 400, 1500, 3000, 6000, 9000, 12_000])
async def test_the_same_command_completes_what_a_lost_connection_left(
    config: Config,
    redis: Redis,
    redis_url: str,
    folder: Folder,
    source: str,
    *,
    budget: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Queue, "chunk_shards", 1)
    async with cut_after(redis_url, budget) as url:
        client = Redis(connection_pool=PatientPool.from_url(url, retry=RetryWindow(0.05)))
        with pytest.raises(RedisConnectionError):
            await enqueue(Order(source), config, client)
        await client.aclose()
    before = len(await queued(redis))
    assert before < 10
    receipt = await enqueue(Order(source), config, redis)
    assert (receipt.total, receipt.shards) == (950, 10 - before)
    await assert_complete(redis, folder, {f"p{n}" for n in range(950)})


STEPS = ["save_limits", "_append", "_open", "enqueue_unsettled"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("appending", [False, True])
async def test_the_same_command_completes_what_a_crash_left(
    config: Config,
    redis: Redis,
    folder: Folder,
    source: str,
    step: str,
    when: str,
    *,
    appending: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if appending:
        await enqueue(Order(source, limit=120), config, redis)
    if not (appending and step == "save_limits"):
        with monkeypatch.context() as patch:
            patch.setattr(enqueue_module, step, crashing(getattr(enqueue_module, step), when))
            with pytest.raises(RuntimeError, match="crash"):
                await enqueue(Order(source), config, redis)
    await enqueue(Order(source), config, redis)
    await assert_complete(redis, folder, {f"p{n}" for n in range(950)})


def crashing(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    def crash(*args: Any, **kwargs: Any) -> Any:
        if when == "after" and not asyncio.iscoroutinefunction(function):
            function(*args, **kwargs)
        if when == "after" and asyncio.iscoroutinefunction(function):
            return after(function(*args, **kwargs))
        raise RuntimeError("crash")

    async def after(coroutine: Any) -> None:
        await coroutine
        raise RuntimeError("crash")

    return crash


async def test_a_full_disk_is_said_and_leaves_nothing(
    config: Config, redis: Redis, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        await enqueue(Order(source), config, redis)
    assert list(config.output_dir.iterdir()) == []
    assert await redis.keys("*") == []


def test_an_unwritable_folder_is_named(config: Config, child_env: dict[str, str], source: str) -> None:
    config.output_dir.mkdir(mode=0o500)
    bound = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []  # root may write everywhere
    command = [*bound, sys.executable, "-m", "jobs", "enqueue", source]
    answer = subprocess.run(command, env=child_env, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert re.search(r"outputs.* cannot be used: Permission denied", answer.stderr)
    assert "Traceback" not in answer.stderr


async def test_an_output_folder_that_is_a_file_is_named(config: Config, redis: Redis, source: str) -> None:
    config.output_dir.touch()
    with pytest.raises(StorageError, match="outputs"):
        await enqueue(Order(source), config, redis)
    assert await redis.keys("*") == []


async def test_producers_of_one_batch_take_turns(
    config: Config, redis: Redis, folder: Folder, source: str, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    more = write(tmp_path / "more" / "night.jsonl", range(500, 1300))
    orders = [Order(file, append=True) for file in (source, more, source)] + [Order(more, limit=300, append=True)]
    receipts = await asyncio.gather(*(enqueue(order, config, redis) for order in orders))
    assert sum(receipt.enqueued for receipt in receipts) == 1300
    await assert_complete(redis, folder, {f"p{n}" for n in range(1300)})


async def test_producers_in_different_processes_take_turns(
    config: Config, redis: Redis, folder: Folder, source: str, nursery: Any, redis_url: str
) -> None:
    program = (
        "import asyncio, sys\n"
        "from jobs.config import Config\n"
        "from jobs.redis_client.client import opened\n"
        "from jobs.enqueue.enqueue import Order, enqueue\n"
        "async def main():\n"
        "    config = Config.load()\n"
        "    async with opened(config) as redis:\n"
        "        await enqueue(Order(sys.argv[1]), config, redis)\n"
        "asyncio.run(main())\n"
    )
    env = {
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": redis_url,
        "BATCH_OUTPUT_DIR": str(config.output_dir),
        "BATCH_MODEL": "owner/name",
        "BATCH_MODEL_CHECK": "false",
        "PATH": os.environ["PATH"],
    }
    children = [nursery.start("-c", program, source, env=env) for _ in range(3)]
    assert [(child.wait(), child.log()) for child in children] == [(0, "")] * 3
    await assert_complete(redis, folder, {f"p{n}" for n in range(950)})


async def test_a_wiped_redis_is_filled_again_from_the_folder(
    config: Config, redis: Redis, folder: Folder, source: str
) -> None:
    await enqueue(Order(source, limit=120), config, redis)
    before = (await Batches(redis).get("night")).id
    await redis.flushall()
    receipt = await enqueue(Order(source, limit=130), config, redis)
    assert (receipt.total, receipt.enqueued, receipt.shards) == (130, 130, 3)
    batch = await Batches(redis).get("night")
    assert (batch.id, batch.generation) == (before, 1)
    assert list(await queued(redis)) == ["night:0:0", "night:1:0", "night:1:1"]
    await redis.flushall()
    await enqueue(Order(source, limit=135), config, redis)
    assert (await Batches(redis).get("night")).generation == 2
    await enqueue(Order(source), config, redis)
    await assert_complete(redis, folder, {f"p{n}" for n in range(950)})


async def test_a_folder_that_is_not_a_batchs_is_left_alone(
    config: Config, redis: Redis, folder: Folder, source: str
) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "photo.png").touch()
    with pytest.raises(ForeignFolder, match=r"has no batch\.json: it is not a batch's folder"):
        await enqueue(Order(source), config, redis)
    assert [path.name for path in folder.path.iterdir()] == ["photo.png"]
    assert await redis.keys("*") == []


async def test_hidden_files_do_not_make_a_folder_foreign(
    config: Config, redis: Redis, folder: Folder, source: str
) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / ".DS_Store").touch()
    assert (await enqueue(Order(source), config, redis)).enqueued == 950


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"batch": "night"}', "\xff"])
async def test_an_identity_that_cannot_be_read_is_foreign(
    config: Config, redis: Redis, folder: Folder, source: str, text: str
) -> None:
    folder.path.mkdir(parents=True)
    folder.manifest.write_text(text, encoding="latin-1")
    with pytest.raises(ForeignFolder, match="cannot be read as a batch's"):
        await enqueue(Order(source), config, redis)


async def test_the_folder_of_a_batch_of_another_name_is_foreign(
    config: Config, redis: Redis, folder: Folder, source: str
) -> None:
    """As on a disk that does not tell NIGHT from night."""
    await enqueue(Order(source), config, redis)
    (config.output_dir / "NIGHT").symlink_to(folder.path)
    with pytest.raises(ForeignFolder, match="is the folder of batch 'night', not of 'NIGHT'; choose another --name"):
        await enqueue(Order(source, name="NIGHT"), config, redis)


async def test_another_output_dir_is_noticed(config: Config, redis: Redis, source: str, tmp_path: Path) -> None:
    await enqueue(Order(source), config, redis)
    elsewhere = config.model_copy(update={"output_dir": tmp_path / "elsewhere"})
    for command in (enqueue(Order(source), elsewhere, redis), retry("night", elsewhere, redis)):
        with pytest.raises(
            ForeignFolder, match=r"Redis knows a batch 'night', but .*batch\.json is missing.*BATCH_OUTPUT_DIR"
        ):
            await command
    assert not (tmp_path / "elsewhere").exists()


async def test_a_batch_that_was_made_anew_elsewhere_is_noticed(
    config: Config, redis: Redis, folder: Folder, source: str
) -> None:
    await enqueue(Order(source), config, redis)
    folder.manifest.write_text(folder.manifest.read_text().replace('"id": "', '"id": "x'))
    with pytest.raises(ForeignFolder, match=r"belongs to another batch of that name.*python -m jobs delete night"):
        await enqueue(Order(source), config, redis)


async def test_another_api_host_is_refused(config: Config, redis: Redis, source: str) -> None:
    await enqueue(Order(source), config, redis)
    other = config.model_copy(update={"replicate_base_url": "http://127.0.0.1:5555"})
    for _ in range(2):
        with pytest.raises(InputError, match=r"was enqueued for api\.replicate\.com, not for 127\.0\.0\.1:5555"):
            await enqueue(Order(source), other, redis)
        await redis.flushall()


@pytest.mark.parametrize("damage", ["lost", "torn", "foreign"])
async def test_a_damaged_copy_is_not_built_upon(
    config: Config, redis: Redis, folder: Folder, source: str, damage: str
) -> None:
    await enqueue(Order(source), config, redis)
    lines = folder.prompts.read_text().splitlines(keepends=True)
    damaged = {"lost": lines[:-1], "torn": [*lines[:-1], lines[-1][:-5]], "foreign": ["{}\n", *lines[1:]]}[damage]
    folder.prompts.write_text("".join(damaged))
    with pytest.raises(StorageError, match=r"prompts\.jsonl(, line \d+, is damaged| has 949 of 950)"):
        await enqueue(Order(source), config, redis)


async def test_a_canceled_batch_is_taken_up_by_retry(config: Config, redis: Redis, source: str) -> None:
    await enqueue(Order(source), config, redis)
    await Batches(redis).request_cancel("night")
    with pytest.raises(InputError, match="was canceled; `python -m jobs retry night` resumes it"):
        await enqueue(Order(source), config, redis)


async def test_two_output_dirs_at_the_same_instant_end_with_one_batch(
    config: Config, redis: Redis, source: str, tmp_path: Path
) -> None:
    elsewhere = config.model_copy(update={"output_dir": tmp_path / "elsewhere"})
    both = (enqueue(Order(source), config, redis), enqueue(Order(source), elsewhere, redis))
    results = await asyncio.gather(*both, return_exceptions=True)
    assert {type(result) for result in results} == {Receipt, ForeignFolder}
    assert len({shard.batch_id for shard in (await queued(redis)).values()}) == 1


def test_a_producer_loads_nothing_of_the_worker() -> None:
    assert not loaded_by("import jobs.cli.app, jobs.enqueue.enqueue") & {"httpx", "aiofiles", "worker"}
