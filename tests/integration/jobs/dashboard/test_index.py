from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.dashboard.index import filling as filling_module
from jobs.dashboard.index import indexes as indexes_module
from jobs.dashboard.index.filters import Filter
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.index.store import Row, Store
from jobs.errors import BatchNotFound
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

ERROR = {"kind": "model_error", "message": "out of memory: 3 GiB"}


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": one, "input": {"prompt": f"a {one}", "seed": 7}} for one in ids]


async def found(indexes: Indexes, **values: Any) -> list[int]:
    return await indexes.ask("night", lambda store: store.positions(Filter(**values)))


async def test_prompts_are_found_as_they_end(night: Any, indexes: Indexes) -> None:
    night.write_rows(*rows("cat", "dog", "owl"))
    await night.open(3)
    assert await found(indexes, state="waiting") == [0, 1, 2]
    await night.end(1, "dog", cost=0.25, saved_at="2026-01-01T00:00:30.000Z")
    await night.end(2, "owl", "failed", error=ERROR)
    assert await indexes.ask("night", lambda store: store.counts(Filter())) == {
        "waiting": 1, "succeeded": 1, "failed": 1,
    }  # fmt: skip
    assert await found(indexes, state="succeeded") == [1]
    (failures,) = await indexes.ask("night", lambda store: store.failures(10))
    assert failures == ("model_error", "out of memory: N GiB", 1, 2, "out of memory: 3 GiB")
    (minute,) = await indexes.ask("night", lambda store: store.minutes(0, 60))
    assert minute == (1767225600, 1, 0, 250_000)
    assert await indexes.ask("night", Store.models) == [("a/b", 3, 250_000)]


async def test_a_record_without_its_bit_is_not_shown_yet(night: Any, indexes: Indexes) -> None:
    night.write_rows(*rows("cat"))
    await night.open(1)
    night.write_record(0, "cat")
    assert await found(indexes, state="waiting") == [0]


async def test_a_batch_that_redis_forgot_is_read_from_its_records(night: Any, indexes: Indexes) -> None:
    night.write_rows(*rows("cat", "dog"))
    night.write_record(1, "dog")
    assert await found(indexes, state="succeeded") == [1]


async def test_a_retried_prompt_waits_again(night: Any, indexes: Indexes, redis: Redis) -> None:
    night.write_rows(*rows("cat", "dog"))
    await night.open(2)
    await night.end(0, "cat")
    await night.end(1, "dog", "failed", error=ERROR)
    assert await found(indexes, state="failed") == [1]
    night.folder.prompt("dog").rename(night.folder.path / "aside")
    night.write_rows(rows("cat")[0], {"generation": 1, **rows("dog")[0]})
    async with redis.pipeline(transaction=True) as pipe:
        await Batches(redis).unsettle("night", 1, "failed", pipe)
        await pipe.execute()
    assert await found(indexes, state="waiting") == [1]
    await night.end(1, "dog")
    assert await found(indexes, state="succeeded") == [0, 1]


async def test_a_long_copy_is_read_piece_by_piece(
    night: Any, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling_module, "BUDGET", 0.0)
    monkeypatch.setattr(filling_module, "CHUNK", 2)
    night.write_rows(*rows("cat", "dog", "owl"))
    assert await ids(indexes) == (["cat", "dog"], False)
    night.write_rows(*rows("owl", "dog", "cat"))  # replaced meanwhile: from the beginning
    assert await ids(indexes) == (["owl", "dog"], False)
    assert (await ids(indexes))[0] == ["owl", "dog", "cat"]


async def ids(indexes: Indexes) -> tuple[list[str], bool]:
    """The ids of the prompts that are in the store, and whether those are all."""
    async with indexes.use("night") as opened:
        return [item.id for item in opened.store.find(Filter())], opened.is_whole


async def test_a_damaged_record_is_a_failure(night: Any, indexes: Indexes) -> None:
    night.write_rows(*rows("cat"))
    await night.open(1)
    await night.end(0, "cat")
    (night.folder.prompt("cat") / "prediction.json").write_text("{")
    (failures,) = await indexes.ask("night", lambda store: store.failures(10))
    assert failures.kind == "internal"
    assert "is no record" in failures.message


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("", [0, 1, 2]),
        ("do", [1]),
        ("DO", [1]),
        ("a cat", [0]),
        ("7", [0, 1, 2]),
        ("a%", []),
        ("a_b", []),
        ("a/b", [0, 1, 2]),
    ],
)
async def test_a_text_is_looked_for_as_it_is(night: Any, indexes: Indexes, text: str, positions: list[int]) -> None:
    night.write_rows(*rows("cat", "dog", "owl"))
    assert await found(indexes, text=text) == positions


async def test_variants_of_a_row_are_found_together(night: Any, indexes: Indexes) -> None:
    night.write_rows(*rows("cat--seed1", "cat--seed2", "cat", "dog--seed1"))
    assert await found(indexes, matrix="cat") == [0, 1, 2]


async def test_texts_that_sqlite_would_refuse_are_kept(night: Any, indexes: Indexes) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "half a pair \ud83d", "seed": "\ud83d"}})
    assert await found(indexes, text="half a pair") == [0]


async def test_what_is_known_outlives_the_dashboard(
    night: Any, indexes: Indexes, config: Config, redis: Redis, tmp_path: Path
) -> None:
    night.write_rows(*rows("cat"))
    await night.open(1)
    await night.end(0, "cat")
    assert await found(indexes, state="succeeded") == [0]
    indexes.close()
    (night.folder.prompt("cat") / "prediction.json").unlink()
    again = Indexes(tmp_path / ".dashboard", config.output_dir, redis)
    assert await found(again, state="succeeded") == [0]
    again.close()


@pytest.mark.parametrize("trouble", ["damaged", "no folder"])
async def test_a_file_that_cannot_be_used_is_made_again(
    night: Any, config: Config, redis: Redis, tmp_path: Path, trouble: str
) -> None:
    night.write_rows(*rows("cat"))
    directory = tmp_path / "kept"
    if trouble == "damaged":
        directory.mkdir()
        (directory / "5ab1e5.sqlite").write_bytes(b"no database" * 100)
    else:
        directory.write_text("a file is in the way")
    broken = Indexes(directory, config.output_dir, redis)
    assert await found(broken, text="cat") == [0]
    broken.close()


async def test_a_folder_of_no_batch_is_refused(indexes: Indexes) -> None:
    with pytest.raises(BatchNotFound, match="is not the folder of a batch"):
        await indexes.ask("noon", Store.models)


async def test_of_many_batches_those_in_use_and_the_last_ones_stay_open(
    night: Any, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes_module, "MOST_OPEN", 1)
    night.write_rows(*rows("cat"))
    other = night.folder.path.parent / "noon"
    other.mkdir()
    (other / "batch.json").write_text('{"batch": "noon", "id": "other", "created_at": 1}')
    async with indexes.use("night") as first:
        async with indexes.use("noon") as second:
            assert first.store.models() == [("a/b", 1, 0)]
        assert first.store.models() == [("a/b", 1, 0)]
        with pytest.raises(sqlite3.ProgrammingError):
            second.store.models()
    async with indexes.use("night") as again:
        assert again is first


async def test_what_redis_forgot_is_read_again_only_when_its_folder_has_changed(
    night: Any, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling_module, "COMPARE_EVERY", 0.0)
    night.write_rows(*rows("cat", "dog"))
    night.write_record(0, "cat").rename(night.folder.path / "aside")
    (night.folder.path / "cat").mkdir()
    assert await found(indexes, state="succeeded") == []
    (night.folder.path / "aside" / "prediction.json").rename(night.folder.path / "cat" / "prediction.json")
    assert await found(indexes, state="succeeded") == [], "no record is opened"
    os.utime(night.folder.path, ns=(0, 0))
    assert await found(indexes, state="succeeded") == [0]


async def test_the_files_of_batches_that_are_gone_are_removed(night: Any, indexes: Indexes, tmp_path: Path) -> None:
    night.write_rows(*rows("cat"))
    directory = tmp_path / ".dashboard"
    directory.mkdir()
    names = ("gone.sqlite", "gone.sqlite-wal", "gone.sqlite-shm", "fresh.sqlite", "fresh.sqlite-wal", "mine.txt")
    for name in names:
        (directory / name).touch()
        if name != "fresh.sqlite-wal":
            os.utime(directory / name, (0, 0))
    Store(directory / f"{night.batch_id}.sqlite", night.batch_id).close()
    os.utime(directory / f"{night.batch_id}.sqlite", (0, 0))
    await indexes.ask("night", Store.models)
    left = {path.name for path in directory.iterdir() if not path.name.startswith(night.batch_id)}
    assert left == {"fresh.sqlite", "fresh.sqlite-wal", "mine.txt"}
    assert (directory / f"{night.batch_id}.sqlite").exists()


def test_an_answer_is_kept_until_something_changes_by_whomever(tmp_path: Path) -> None:
    store, other = (Store(tmp_path / "x.sqlite", "x") for _ in range(2))
    row = Row(0, "cat", "a/b", "cat", 0, 0, 9, "a cat", None)
    assert store.models() is store.models() == []
    store.put_rows([row])
    assert store.models() is store.models() == [("a/b", 1, 0)]
    other.put_rows([row._replace(position=1, id="dog")])
    assert store.models() == [("a/b", 2, 0)]
    store.close()
    other.close()
