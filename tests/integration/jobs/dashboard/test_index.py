from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.dashboard.index import filling as filling_module
from jobs.dashboard.index import indexes as indexes_module
from jobs.dashboard.index.filters import Filter
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.index.store import Store
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
    assert not (opened := await indexes.of("night")).is_whole
    assert opened.store.positions(Filter()) == [0, 1]
    night.write_rows(*rows("owl", "dog", "cat"))  # replaced meanwhile: from the beginning
    assert not (await indexes.of("night")).is_whole
    assert [item.id for item in opened.store.find(Filter())] == ["owl", "dog"]
    await indexes.of("night")
    assert [item.id for item in opened.store.find(Filter())] == ["owl", "dog", "cat"]


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
        await indexes.of("noon")


async def test_of_many_batches_only_the_last_ones_stay_open(
    night: Any, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes_module, "MOST_OPEN", 1)
    night.write_rows(*rows("cat"))
    first = await indexes.of("night")
    other = night.folder.path.parent / "noon"
    other.mkdir()
    (other / "batch.json").write_text('{"batch": "noon", "id": "other", "created_at": 1}')
    await indexes.of("noon")
    assert (await indexes.of("night")) is not first
