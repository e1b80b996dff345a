"""Output folders on file systems that cannot fsync a directory (CIFS, some FUSE), or fsync at all, or lock (NFS)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.batch_folder.folder import Folder
from jobs.cli.app import app
from jobs.config import Config
from jobs.enqueue.enqueue import Order, enqueue, retry
from jobs.errors import RedisUnreachable, StorageError
from jobs.queue.payload import unpack
from jobs.redis_client import embedded
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.verify.verify import verify
from jobs.wire import Batch, Shard
from worker.context import Context
from worker.doctor.machine import speed_findings
from worker.lifecycle import open_context
from worker.shard.run import run_shard

IMAGE = {"model": "simulator/image", "input": {"prompt": "cat", "width": 16, "height": 16}}
NO_DIRECTORY = [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`refuse(number)`: fsync of a directory, or with `files` of anything, ends with that error."""
    fsync = os.fsync

    def make(number: int, *, files: bool = False) -> None:
        def refusing(descriptor: int) -> None:
            if files or stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", refusing)

    return make


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "night.jsonl"
    path.write_text(json.dumps({"id": "cat", **IMAGE}) + "\n" + json.dumps({"id": "dog", **IMAGE, "model": "a/b"}))
    return str(path)


async def go_through(config: Config, redis: Redis, source: str) -> Batch:
    """Enqueue, work, finish, retry and finish again; one of the two prompts succeeds, the other has no model."""
    await enqueue(Order(source, model_check=False), config, redis)
    async with open_context(config) as worker:
        await run_shard(worker, await shard_of(worker))
        await retry("night", config, redis)
        await run_shard(worker, await shard_of(worker))
    return await Batches(redis).get("night")


async def shard_of(worker: Context) -> Shard:
    key = await anext(aiter(worker.redis.scan_iter("arq:job:*")))
    return unpack(await worker.redis.get(key), key.decode().removeprefix("arq:job:"))


@pytest.mark.parametrize("number", NO_DIRECTORY, ids=errno.errorcode.get)
async def test_a_folder_that_cannot_be_synced_takes_a_whole_batch(
    config: Config, redis: Redis, source: str, refuse: Callable[..., None], number: int
) -> None:
    refuse(number)
    batch = await go_through(config, redis, source)
    assert (batch.succeeded, batch.failed, batch.finished_at is not None) == (1, 1, True)
    assert len(Folder(config.output_dir, "night").results.read_text().splitlines()) == 2


async def test_a_folder_that_the_disk_fails_to_sync_is_an_error(
    config: Config, redis: Redis, source: str, refuse: Callable[..., None]
) -> None:
    refuse(errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        await enqueue(Order(source, model_check=False), config, redis)


async def test_without_fsync_nothing_is_ever_synced(
    config: Config,
    redis: Redis,
    source: str,
    refuse: Callable[..., None],
    child_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(errno.EINVAL, files=True)
    hasty = config.model_copy(update={"fsync": False})
    batch = await go_through(hasty, redis, source)
    assert batch.finished_at
    assert speed_findings(hasty)
    for name, value in (child_env | {"BATCH_FSYNC": "false"}).items():
        monkeypatch.setenv(name, value)
    for command, code in (("results", 1), ("gallery", 0)):  # 1: a prompt of the finished batch failed
        answer = CliRunner().invoke(app, [command, "night"])
        assert answer.exit_code == code, answer


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
async def test_a_file_system_without_locks_is_said_with_a_cure(
    config: Config, redis: Redis, source: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refusing(file: Any, operation: int) -> None:
        del file, operation
        raise OSError(number, os.strerror(number))

    await enqueue(Order(source, model_check=False), config, redis)
    monkeypatch.setattr(fcntl, "flock", refusing)
    with pytest.raises(StorageError, match=r"cannot be locked: .*NFS.*BATCH_OUTPUT_DIR"):
        await enqueue(Order(source, model_check=False), config, redis)
    with pytest.raises(RedisUnreachable, match="BATCH_REDIS_DIR to another directory, on a local disk"):
        embedded.ensure_running(config.redis_dir)
    assert (await asyncio.to_thread(verify, "night", config)).agrees
