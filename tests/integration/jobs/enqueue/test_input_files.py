"""Rows that name local files: the batch keeps references, and the same files are the same rows."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, check, enqueue, retry
from jobs.errors import InputError, PromptsError
from jobs.input_files.copies import copied_path
from jobs.input_files.reference import references
from jobs.prices.setting import Prices
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from tests.integration.jobs.enqueue.night import API_HOST, queued, settle, write

Enqueued = Callable[..., Awaitable[Receipt]]
ROWS = [{"id": f"p{number}", "prompt": "x", "image": f"@stills/{number % 2}.png"} for number in range(4)]


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    path = tmp_path / "stills"
    path.mkdir()
    for number in range(2):
        (path / f"{number}.png").write_bytes(b"picture %d" % number)
    return path


def inputs(folder: Folder) -> list[Any]:
    return [json.loads(line)["input"] for line in folder.prompts.read_text().splitlines()]


async def test_the_copy_has_references(enqueued: Enqueued, folder: Folder, stills: Path) -> None:
    await enqueued(ROWS)
    hashes = [hashlib.sha256(b"picture %d" % number).hexdigest() for number in range(2)]
    assert inputs(folder) == [
        {
            "prompt": "x",
            "image": {"$file": str(stills / f"{number % 2}.png"), "sha256": hashes[number % 2], "size": 9},
        }
        for number in range(4)
    ]


async def test_the_same_files_add_nothing(enqueued: Enqueued, folder: Folder, stills: Path) -> None:
    await enqueued(ROWS)
    before = folder.prompts.read_bytes()
    (stills / "0.png").touch()
    assert (await enqueued(ROWS)).enqueued == 0
    assert (await enqueued([*ROWS, {"id": "p4", "prompt": "x", "image": "@./stills/1.png"}])).total == 5
    assert folder.prompts.read_bytes().startswith(before)


async def test_a_file_that_changed_is_a_row_that_changed(
    enqueued: Enqueued, folder: Folder, stills: Path, redis: Redis
) -> None:
    await enqueued(ROWS)
    await settle(redis, folder, {0: "failed", 1: "succeeded", 2: "failed", 3: "failed"})
    await Queue(redis, API_HOST).remove("night")
    assert await Batches(redis).finish("night")
    (stills / "0.png").write_bytes(b"another")
    with pytest.raises(
        PromptsError, match=r"night\.jsonl: 2 errors(?s:.*)the id 'p0' already, with another model, inp"
    ):
        await enqueued(ROWS)
    await enqueued(ROWS, replace=True)
    assert [value["image"]["size"] for value in inputs(folder)] == [7, 9, 7, 9]


@pytest.mark.usefixtures("stills")
async def test_all_wrong_files_are_told_with_their_lines(
    tmp_path: Path, config: Config, enqueued: Enqueued, folder: Folder
) -> None:
    rows = [*ROWS, *({"prompt": "x", "image": path} for path in ("@gone.zip", "stills/1.png", "@stills", "@gone.zip"))]
    with pytest.raises(PromptsError) as error:
        await enqueued(rows)
    cure = "write '@stills/1.png' to upload it, or give an https URL or a data: URI"
    assert str(error.value).splitlines()[1:] == [
        f"  lines 5 and 8: 'image' names {tmp_path}/gone.zip, which does not exist",
        f"  line 6: 'image': 'stills/1.png' names a local file; {cure}",
    ]
    assert not folder.path.exists()
    with pytest.raises(PromptsError, match="3 errors"):
        await check(Order(write(tmp_path / "night.jsonl", rows)), config)
    found = await check(Order(write(tmp_path / "night.jsonl", ROWS)), config)
    assert (found.total, found.files, found.file_bytes) == (4, 2, 18)
    found = await check(Order(write(tmp_path / "night.jsonl", ROWS), limit=1), config)
    assert (found.total, found.files, found.file_bytes) == (1, 1, 9)


async def test_each_content_is_copied_once(enqueued: Enqueued, folder: Folder, stills: Path, config: Config) -> None:
    rows = [*ROWS, {"prompt": "x", "images": ["@stills/same.png", "@stills/same.JPG", "@stills/odd.p g"]}]
    for name in ("same.png", "same.JPG", "odd.p g"):
        (stills / name).write_bytes(b"picture 0")
    await enqueued(rows, copy_inputs=True)
    hashes = [hashlib.sha256(b"picture %d" % number).hexdigest() for number in range(2)]
    there = {path.name: path.read_bytes() for path in (folder.path / ".inputs").iterdir()}
    assert there == {
        f"{hashes[0]}.png": b"picture 0",
        f"{hashes[0]}.JPG": b"picture 0",
        hashes[0]: b"picture 0",
        f"{hashes[1]}.png": b"picture 1",
    }
    files = [reference for value in inputs(folder) for reference in references(value)]
    assert {copied_path(folder.path, file).read_bytes() for file in files} == set(there.values())
    for damaged in (b"cut", b"picture ?"):
        (copy := copied_path(folder.path, files[0])).write_bytes(damaged)
        await enqueued(rows, copy_inputs=True)
        assert copy.read_bytes() == b"picture 0"
    assert [path.name for path in config.output_dir.iterdir()] == ["night"]


@pytest.mark.usefixtures("stills")
async def test_progress_is_reported_while_files_are_read(tmp_path: Path, config: Config, redis: Redis) -> None:
    rows = [{"prompt": "x", "image": f"@stills/{number % 2}.png"} for number in range(120)]
    source, told = write(tmp_path / "night.jsonl", rows), list[str]()
    await enqueue(Order(source, copy_inputs=True), config, redis, told.append)
    assert told == [
        *(f"checking {source}: {count} rows" for count in (0, 50, 100, 120)),
        "enqueuing 120 prompts",
        *(f"copying inputs: {count} files" for count in (1, 2)),
    ]


@pytest.mark.usefixtures("stills")
async def test_a_batch_gets_copies_later(enqueued: Enqueued, folder: Folder) -> None:
    await enqueued(ROWS)
    assert not (folder.path / ".inputs").exists()
    assert (await enqueued(ROWS, copy_inputs=True)).enqueued == 0
    assert len(list((folder.path / ".inputs").iterdir())) == 2


async def test_a_file_that_was_copied_may_go(
    enqueued: Enqueued, folder: Folder, stills: Path, config: Config, tmp_path: Path
) -> None:
    await enqueued(ROWS, copy_inputs=True)
    before = folder.prompts.read_bytes()
    shutil.rmtree(stills)
    assert (await enqueued(ROWS)).enqueued == 0
    assert folder.prompts.read_bytes() == before
    more = [*ROWS, {"prompt": "y", "image": "@./stills/../stills/1.png"}]
    assert (await check(Order(write(tmp_path / "night.jsonl", more)), config)).total == 5
    assert (await enqueued(more)).total == 5
    assert inputs(folder)[4]["image"] == inputs(folder)[1]["image"]
    copied_path(folder.path, next(references(inputs(folder)[1]))).unlink()
    with pytest.raises(PromptsError, match=r"lines 2, 4 and 5: 'image' names .*1\.png, and there is no folder"):
        await enqueued(more)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(b"another 1"), "1.png changed after it was checked: give the same command"),
        (lambda path: path.write_bytes(b"picture 1, which grows"), "1.png changed after it was checked"),
        (a_pipe, "1.png changed after it was checked"),
        (Path.unlink, "1.png cannot be copied: No such file or directory; give the same command again"),
    ],
)
async def test_a_file_that_changes_before_it_is_copied(
    stills: Path, config: Config, redis: Redis, change: Callable[[Path], Any], reason: str
) -> None:
    order = Order(write(stills.parent / "night.jsonl", ROWS), copy_inputs=True)
    folder = Folder(config.output_dir, "night")
    with pytest.raises(InputError, match=reason):
        await enqueue(order, config, redis, confirm=lambda _: change(stills / "1.png"))
    assert not folder.prompts.exists()
    assert await Batches(redis).find("night") is None
    (stills / "1.png").unlink(missing_ok=True)
    (stills / "1.png").write_bytes(b"picture 1")
    assert (await enqueue(order, config, redis)).enqueued == 4
    assert len(list((folder.path / ".inputs").iterdir())) == 2


@pytest.mark.usefixtures("stills")
async def test_that_uploads_are_kept_is_kept(enqueued: Enqueued, folder: Folder) -> None:
    await enqueued(ROWS[:1])
    assert (manifest := read_manifest(folder))
    assert not manifest.keep_uploads
    for keep_uploads in (True, False):
        await enqueued(ROWS, keep_uploads=keep_uploads)
        assert (manifest := read_manifest(folder))
        assert manifest.keep_uploads, "once asked for, it stays"


async def test_a_retry_has_the_files_as_they_were(
    enqueued: Enqueued, folder: Folder, stills: Path, config: Config, redis: Redis
) -> None:
    await enqueued(ROWS)
    before = inputs(folder)
    await settle(redis, folder, {0: "failed", 1: "succeeded", 2: "failed", 3: "failed"})
    await Queue(redis, API_HOST).remove("night")
    assert await Batches(redis).finish("night")
    (stills / "0.png").unlink()
    assert (await retry("night", config, redis)).enqueued == 3
    assert inputs(folder) == before
    (shard,) = (await queued(redis)).values()
    assert [prompt.input for prompt in shard.prompts] == [before[0], before[2], before[3]]


async def test_files_cost_nothing(stills: Path, config: Config) -> None:
    priced = config.model_copy(update={"prices": Prices.parse("owner/name=0.25")})
    found = await check(Order(write(stills.parent / "night.jsonl", ROWS)), priced)
    assert (found.cost_at_least, found.cost_at_most) == (1.0, 1.0 * config.max_attempts)
