from __future__ import annotations

import asyncio
import io
import json
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.catalog.catalog import Catalog
from jobs.config import Config
from jobs.enqueue.checked_rows import CheckedRows
from jobs.enqueue.enqueue import Order, Receipt, check, enqueue
from jobs.enqueue.spool import spooling
from jobs.errors import BatchError, InputError, PromptsError
from jobs.prices.setting import Prices
from jobs.queue.shard_queue import Queue
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Shard
from tests.integration.jobs.enqueue.night import queued, write

Enqueue = Callable[..., Awaitable[Receipt]]


def ids(shard: Shard) -> list[str]:
    return [prompt.id for prompt in shard.prompts]


def all_files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


async def test_a_file_becomes_a_batch(enqueued: Enqueue, redis: Redis, folder: Folder, tmp_path: Path) -> None:
    receipt = await enqueued(250)
    assert receipt.model_dump() == {
        "batch": "night", "total": 250, "enqueued": 250, "already_done": 0, "shards": 3, "workers": 0,
        "dead_letters": [], "cost_at_least": None, "cost_at_most": None, "cost_is_partial": False, "unpriced": [],
        "unpriced_models": [], "warnings": [],
        "begun_from": str((tmp_path / "night.jsonl").resolve()), "pinned": {},
    }  # fmt: skip
    shards = await queued(redis)
    assert list(shards) == ["night:0:0", "night:1:0", "night:2:0"]
    assert [prompt.index for shard in shards.values() for prompt in shard.prompts] == list(range(250))
    batch = await Batches(redis).get("night")
    assert (batch.total, batch.generation, batch.api_host, batch.finished_at) == (250, 0, "api.replicate.com", None)
    assert {shard.batch_id for shard in shards.values()} == {batch.id} == {folder.batch_id()}


async def test_the_folder_has_the_copy_and_the_identity_and_nothing_is_left_over(
    enqueued: Enqueue, folder: Folder, config: Config, redis: Redis
) -> None:
    await enqueued([{"id": "a", "prompt": "ü", "seed": 1}, {"model": "o/n", "input": {}}])
    assert [(row.index, row.id, row.model, row.input, row.generation) for row in read_copy(folder)] == [
        (0, "a", "owner/name", {"prompt": "ü", "seed": 1}, 0),
        (1, "000002", "o/n", {}, 0),
    ]
    shard = (await queued(redis))["night:0:0"]
    assert shard.prompts == tuple(read_copy(folder))
    manifest = json.loads(folder.manifest.read_text())
    assert (manifest["batch"], manifest["realm"]) == ("night", "api.replicate.com")
    assert all_files(config.output_dir) == {"night", "night/.lock", "night/batch.json", "night/prompts.jsonl"}


async def test_enqueuing_again_does_nothing(enqueued: Enqueue, redis: Redis, folder: Folder) -> None:
    await enqueued(250)
    before, copy = await queued(redis), folder.prompts.read_bytes()
    receipt = await enqueued(250)
    assert (receipt.total, receipt.enqueued, receipt.already_done, receipt.shards) == (250, 0, 0, 0)
    assert await queued(redis) == before
    assert folder.prompts.read_bytes() == copy


async def test_done_prompts_are_reported_and_not_enqueued_again(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(120)
    for index in (0, 3, 119):
        await Batches(redis).settle("night", index, "succeeded")
    await Queue(redis, "api.replicate.com").remove("night")
    receipt = await enqueued(120)
    assert (receipt.total, receipt.enqueued, receipt.already_done, receipt.shards) == (120, 117, 3, 2)
    assert [prompt.index for shard in (await queued(redis)).values() for prompt in shard.prompts] == [
        index for index in range(120) if index not in (0, 3, 119)
    ]


async def test_a_batch_whose_last_job_was_lost_gets_one_to_be_finished_by(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(120)
    for index in range(120):
        await Batches(redis).settle("night", index, "succeeded")
    await Queue(redis, "api.replicate.com").remove("night")
    for _ in range(2):
        receipt = await enqueued(120)
        assert (receipt.enqueued, receipt.already_done, receipt.shards) == (0, 120, 0)
        assert {job: len(shard.prompts) for job, shard in (await queued(redis)).items()} == {"night:1:0": 1}


async def test_what_is_reported_as_done_is_of_this_file(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(5)
    for index in (0, 4):
        await Batches(redis).settle("night", index, "succeeded")
    assert (await enqueued(2)).already_done == 1


async def test_new_ids_are_appended_as_a_new_generation(enqueued: Enqueue, redis: Redis, folder: Folder) -> None:
    await enqueued(3)
    receipt = await enqueued(
        [{"id": "new", "prompt": "x"}, {"prompt": "fox 1", "id": "p1"}, {"id": "p9", "prompt": "y"}]
    )
    assert (receipt.total, receipt.enqueued, receipt.shards) == (5, 2, 1)
    assert [(row.id, row.generation) for row in read_copy(folder)] == [
        ("p0", 0), ("p1", 0), ("p2", 0), ("new", 1), ("p9", 1),
    ]  # fmt: skip
    shards = await queued(redis)
    assert {job: ids(shard) for job, shard in shards.items()} == {
        "night:0:0": ["p0", "p1", "p2"],
        "night:0:1": ["new", "p9"],
    }
    assert [prompt.index for prompt in shards["night:0:1"].prompts] == [3, 4]
    assert (await Batches(redis).get("night")).generation == 1


async def test_appending_opens_a_finished_batch_again(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(1)
    await Batches(redis).settle("night", 0, "succeeded")
    assert await Batches(redis).finish("night")
    assert (await enqueued(1)).already_done == 1
    assert (await Batches(redis).get("night")).finished_at is not None
    receipt = await enqueued(2)
    assert (receipt.total, receipt.enqueued, receipt.already_done) == (2, 1, 1)
    assert (await Batches(redis).get("night")).finished_at is None
    assert await redis.ttl(keys.batch("night")) == -1


async def test_another_input_under_a_known_id_is_an_error_and_changes_nothing(
    enqueued: Enqueue, redis: Redis, folder: Folder
) -> None:
    await enqueued(3)
    before = await queued(redis), folder.prompts.read_bytes()
    rows = [
        {"id": "p1", "prompt": "another"},
        {"id": "P2", "prompt": "fox 2"},
        {"id": "p0", "model": "o/other", "prompt": "fox 0"},
        {"id": "new", "prompt": "x"},
    ]
    with pytest.raises(PromptsError) as caught:
        await enqueued(rows)
    assert caught.value.count == 3
    assert {problem.line for problem in caught.value.problems} == {1, 2, 3}
    assert "batch 'night' has the id 'p1' already, with another model, input or spelling" in str(caught.value)
    assert (await queued(redis), folder.prompts.read_bytes()) == before


async def test_the_first_20_errors_are_shown_and_the_rest_counted(
    enqueued: Enqueue, redis: Redis, config: Config
) -> None:
    with pytest.raises(PromptsError) as caught:
        await enqueued([{"prompt": "fine"}, *({"id": "/"} for _ in range(30))])
    assert (len(caught.value.problems), caught.value.count) == (20, 60)
    assert "night.jsonl: 60 errors; nothing was enqueued" in str(caught.value)
    assert str(caught.value).endswith("… and 40 more")
    assert await redis.keys("*") == []
    assert all_files(config.output_dir) == set()


async def test_conflicts_are_counted_too(enqueued: Enqueue) -> None:
    await enqueued(30)
    with pytest.raises(PromptsError) as caught:
        await enqueued(30, input={"seed": 1})
    assert (len(caught.value.problems), caught.value.count) == (20, 30)


async def test_a_pilot_and_then_the_rest(enqueued: Enqueue, redis: Redis) -> None:
    receipt = await enqueued(150, limit=10)
    assert (receipt.total, receipt.enqueued, receipt.shards) == (10, 10, 1)
    receipt = await enqueued(150)
    assert (receipt.total, receipt.enqueued, receipt.shards) == (150, 140, 2)
    assert [len(shard.prompts) for shard in (await queued(redis)).values()] == [10, 90, 50]
    assert (await enqueued(150, limit=20)).enqueued == 0


async def test_a_pilot_checks_the_whole_file(enqueued: Enqueue, redis: Redis) -> None:
    with pytest.raises(PromptsError, match="line 3"):
        await enqueued([{"prompt": "a"}, {"prompt": "b"}, {}], limit=1)
    assert await redis.keys("*") == []


async def test_an_id_beyond_the_limit_may_differ(enqueued: Enqueue) -> None:
    await enqueued([{"id": "a", "prompt": "x"}])
    receipt = await enqueued([{"id": "b", "prompt": "y"}, {"id": "a", "prompt": "other"}], limit=1)
    assert (receipt.total, receipt.enqueued) == (2, 1)


async def test_rows_that_are_picked_at_random_come_first(enqueued: Enqueue, folder: Folder) -> None:
    """The same command again goes on with them; the whole file adds the others, and a larger pick includes them."""
    assert (await enqueued(200, limit=20, pick=7)).enqueued == 20
    first = [row.id for row in read_copy(folder)]
    assert first == sorted(set(first), key=lambda name: int(name[1:])) != [f"p{n}" for n in range(20)]
    assert (await enqueued(200, limit=20, pick=7)).enqueued == 0
    assert (await enqueued(200, limit=30, pick=7)).enqueued == 10
    rest = await enqueued(200)
    assert (rest.enqueued, rest.total) == (170, 200)
    copied = list(read_copy(folder))
    assert [row.id for row in copied[:20]] == first
    assert {row.id: row.input["prompt"] for row in copied} == {f"p{n}": f"fox {n}" for n in range(200)}
    changed = [{"id": name, "prompt": "other"} for name in first]
    with pytest.raises(PromptsError, match=r"line 5: batch 'night' has the id"):
        await enqueued([*({"id": f"x{n}", "prompt": "x"} for n in range(4)), changed[0]], limit=5, pick=7)


async def test_what_is_picked_is_what_is_estimated(tmp_path: Path, config: Config, redis: Redis) -> None:
    rows = [{"id": f"p{n}", "model": f"a/m{n}", "prompt": "x"} for n in range(20)]
    prices = Prices.parse(", ".join(f"a/m{n}={n + 1}" for n in range(20)))
    config = config.model_copy(update={"prices": prices, "max_attempts": 1})
    receipt = await enqueue(Order(write(tmp_path / "night.jsonl", rows), limit=3, pick=1), config, redis)
    picked = [int(row.id[1:]) + 1 for row in read_copy(Folder(config.output_dir, "night"))]
    assert (receipt.enqueued, receipt.cost_at_least, receipt.cost_at_most) == (3, sum(picked), sum(picked))


async def test_model_and_input_fill_what_is_missing(enqueued: Enqueue, folder: Folder) -> None:
    await enqueued(
        [{"prompt": "a"}, {"model": "o/mine", "prompt": "b", "steps": 1}], model="o/given", input={"steps": 4}
    )
    assert [(row.model, row.input["steps"]) for row in read_copy(folder)] == [("o/given", 4), ("o/mine", 1)]


async def test_priority_weighs(enqueued: Enqueue, redis: Redis) -> None:
    await enqueued(100, priority=4)
    assert await redis.zscore(keys.queue("api.replicate.com"), "night:0:0") == 25
    assert (await Batches(redis).get("night")).priority == 4


async def test_live_workers_are_counted(enqueued: Enqueue, redis: Redis) -> None:
    await redis.zadd(keys.workers("api.replicate.com"), {"w": 4e9, "gone": 1})
    assert (await enqueued(1)).workers == 1


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three prompts on standard input."""
    rows = b'{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(rows)))


@pytest.mark.usefixtures("typed")
async def test_standard_input_is_spooled(config: Config, redis: Redis) -> None:
    receipt = await enqueue(Order("-", name="night"), config, redis)
    assert (receipt.batch, receipt.enqueued) == ("night", 3)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (Order("-"), "standard input needs a --name"),
        (Order("a.jsonl", name="../x"), "the batch's name '../x' is not 1 to 64"),
        (Order("a.jsonl", name="x" * 65), "is not 1 to 64"),
        (Order("a.jsonl", name="batch.json"), "own files"),
        (Order("...jsonl"), "is not 1 to 64"),
        (Order("a.jsonl", limit=0), "--limit must be at least 1"),
        (Order("a.jsonl", priority=0), "--priority must be between"),
        (Order("a.jsonl", priority=float("nan")), "--priority must be between"),
        (Order("a.jsonl"), "a.jsonl cannot be read: No such file"),
        (Order("a.xlsx"), "the format is not known"),
    ],
)
async def test_a_wrong_order_does_nothing(config: Config, redis: Redis, order: Order, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        await enqueue(order, config, redis)
    assert reason in str(caught.value)
    assert await redis.keys("*") == []
    assert all_files(config.output_dir) == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("prompts.jsonl", "prompts"),
        ("x/My prompts (2).JSONL.gz", "My-prompts--2-"),
        (".hidden.csv", "hidden"),
        ("é" * 3 + "b.txt", "b"),
        ("a" * 80 + ".txt", "a" * 64),
        ("v1.2.jsonl", "v1.2"),
    ],
)
def test_a_batch_is_named_after_its_file(source: str, name: str) -> None:
    assert Order(source).batch == name
    assert Order(source, name="given").batch == "given"


async def test_check_counts_and_touches_nothing(config: Config, redis: Redis, tmp_path: Path) -> None:
    source = write(tmp_path / "night.jsonl", 5)
    assert (await check(Order(source), config)).total == 5
    assert (await check(Order(source, limit=2), config)).total == 2
    with pytest.raises(PromptsError, match="is not a model"):
        await check(Order(source, model="flux"), config)
    with pytest.raises(InputError, match="name"):
        await check(Order(source, name="a b"), config)
    assert not config.output_dir.exists()
    assert await redis.keys("*") == []


@pytest.mark.usefixtures("typed")
async def test_check_needs_no_name_for_standard_input(config: Config) -> None:
    assert (await check(Order("-"), config)).total == 3


async def test_without_fsync_it_is_the_same(config: Config, redis: Redis, tmp_path: Path) -> None:
    hasty = config.model_copy(update={"fsync": False})
    await enqueue(Order(write(tmp_path / "night.jsonl", 2)), hasty, redis)
    await enqueue(Order(write(tmp_path / "night.jsonl", 3)), hasty, redis)
    assert len(list(read_copy(Folder(config.output_dir, "night")))) == 3


async def test_what_a_killed_producer_left_is_removed_after_a_day(config: Config, enqueued: Enqueue) -> None:
    config.output_dir.mkdir()
    old, new = config.output_dir / ".night.1.part", config.output_dir / ".night.2.part"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    await enqueued(1)
    assert {path.name for path in config.output_dir.iterdir()} == {"night", ".night.2.part"}


async def test_rows_are_not_held_in_memory(config: Config, tmp_path: Path) -> None:
    rows = [{"id": f"p{n}", "prompt": f"{n}" * 500} for n in range(5000)]
    order = Order(write(tmp_path / "night.jsonl", rows))
    size = (tmp_path / "night.jsonl").stat().st_size
    folder = Folder(config.output_dir, "night")
    with spooling(order, folder) as spool:
        rows_of = CheckedRows(order, config, Catalog(config, folder, None))
        tracemalloc.start()
        try:
            await spool.fill(rows_of, fsync=False)
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(spool) == 5000
    assert held < 5000 * 250
    assert peak < 8_000_000 < size


async def test_large_prompts_are_queued(enqueued: Enqueue, redis: Redis) -> None:
    uri = "data:image/png;base64," + os.urandom(400_000).hex()
    receipt = await enqueued([{"input": {"image": f"{uri}{n}"}} for n in range(12)])
    assert receipt.enqueued == 12
    assert (await queued(redis))["night:0:0"].prompts[11].input == {"image": f"{uri}11"}


async def test_producers_of_different_batches_do_not_disturb_each_other(
    config: Config, redis: Redis, tmp_path: Path
) -> None:
    sources = [write(tmp_path / f"b{n}.jsonl", 120) for n in range(4)]
    receipts = await asyncio.gather(*(enqueue(Order(source), config, redis) for source in sources))
    assert [receipt.enqueued for receipt in receipts] == [120] * 4
    assert len(await queued(redis)) == 8


async def test_every_error_is_one_of_ours(enqueued: Enqueue) -> None:
    for rows in (["x"], [{"id": 1}], []):
        with pytest.raises(BatchError):
            await enqueued(rows)


async def test_how_far_it_is_is_told(config: Config, redis: Redis, tmp_path: Path) -> None:
    source = tmp_path / "many.txt"
    source.write_text("a\n" * 20_001)
    told: list[str] = []
    await enqueue(Order(str(source), model="a/b"), config, redis, told.append)
    assert told == [
        *(f"checking {source}: {count} rows" for count in ("0", "10,000", "20,000")),
        "enqueuing 20,001 prompts",
    ]
