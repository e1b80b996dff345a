"""Two files of one name in different folders are two batches, unless somebody says otherwise."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.config import Config
from jobs.enqueue.enqueue import Order, enqueue
from jobs.errors import InputError
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches


def write(folder: Path, ids: str, **more: Any) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "night.jsonl"
    path.write_text("".join(json.dumps({"id": name, "prompt": f"fox {name}", **more}) + "\n" for name in ids))
    return str(path.resolve())


async def test_another_file_of_the_same_name_is_no_part_of_the_batch(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder
) -> None:
    first, second = write(tmp_path / "a", "ab"), write(tmp_path / "b", "cd")
    receipt = await enqueue(Order(first), config, redis)
    assert receipt.begun_from == first
    before = folder.prompts.read_bytes(), folder.manifest.read_bytes()
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"enqueued from .*/a/night\.jsonl, not from .*give another --name"
        ) as told:
            await enqueue(Order(second), config, redis)
        assert "--append" in str(told.value)
    assert (folder.prompts.read_bytes(), folder.manifest.read_bytes()) == before
    assert (await Batches(redis).get("night")).total == 2
    assert (await enqueue(Order(second, name="other"), config, redis)).enqueued == 2
    receipt = await enqueue(Order(second, append=True), config, redis)
    assert (receipt.enqueued, receipt.total, receipt.begun_from) == (2, 4, first)


async def test_the_same_ids_with_other_prompts_are_told_as_another_file(
    tmp_path: Path, config: Config, redis: Redis
) -> None:
    await enqueue(Order(write(tmp_path / "a", "ab")), config, redis)
    with pytest.raises(InputError, match="was enqueued from"):
        await enqueue(Order(write(tmp_path / "b", "ab", seed=1)), config, redis)


async def test_a_file_that_moved_is_the_same(tmp_path: Path, config: Config, redis: Redis) -> None:
    path = write(tmp_path / "a", "abc")
    await enqueue(Order(path, limit=2), config, redis)
    moved = shutil.move(path, tmp_path / "night.jsonl")
    assert (await enqueue(Order(str(moved), limit=2), config, redis)).total == 2, "all its rows are known"
    with pytest.raises(InputError, match="enqueued from"):
        await enqueue(Order(str(moved)), config, redis)
    assert (await enqueue(Order(str(moved), append=True), config, redis)).total == 3


async def test_a_file_that_grows_where_it_is(
    tmp_path: Path, config: Config, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enqueue(Order(write(tmp_path / "a", "ab")), config, redis)
    write(tmp_path / "a", "abc")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "link")
    assert (await enqueue(Order("night.jsonl"), config, redis)).total == 3
    write(tmp_path / "a", "abcd")
    assert (await enqueue(Order(str(tmp_path / "link" / "night.jsonl")), config, redis)).total == 4


async def test_a_link_that_names_a_new_file_each_day(tmp_path: Path, config: Config, redis: Redis) -> None:
    link = tmp_path / "night.jsonl"
    for number, ids in enumerate(("ab", "cd")):
        link.unlink(missing_ok=True)
        link.symlink_to(write(tmp_path / ids, ids))
        assert (await enqueue(Order(str(link)), config, redis)).total == 2 * number + 2


async def test_standard_input_has_no_place(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        row = json.dumps({"id": f"s{number}", "prompt": "a"})
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(row.encode())))
        receipt = await enqueue(Order("-", name="night"), config, redis)
        assert (receipt.total, receipt.begun_from) == (number + 1, None)
    assert (await enqueue(Order(write(tmp_path / "a", "ab")), config, redis)).total == 4
    assert folder.path.exists()


async def test_a_batch_of_the_version_before_knows_no_file(
    tmp_path: Path, config: Config, redis: Redis, folder: Folder
) -> None:
    await enqueue(Order(write(tmp_path / "a", "ab")), config, redis)
    facts = json.loads(folder.manifest.read_bytes())
    assert facts.pop("source") == str((tmp_path / "a" / "night.jsonl").resolve())
    folder.manifest.write_text(json.dumps(facts))
    assert (await enqueue(Order(write(tmp_path / "b", "cd")), config, redis)).total == 4
    manifest = read_manifest(folder)
    assert manifest
    assert manifest.source is None


async def test_a_batch_that_redis_lost_keeps_its_file(tmp_path: Path, config: Config, redis: Redis) -> None:
    await enqueue(Order(write(tmp_path / "a", "ab")), config, redis)
    await redis.flushall()
    with pytest.raises(InputError, match="enqueued from"):
        await enqueue(Order(write(tmp_path / "b", "abc")), config, redis)
    assert (await enqueue(Order(write(tmp_path / "b", "ab")), config, redis)).total == 2
