"""What models are is asked of the API once, kept with the batch, and used again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.lock import locked
from jobs.catalog import paced_reads
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, check, enqueue, retry
from jobs.errors import InputError, ModelsUnknown, PromptsError, StorageError
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from simulator.models.registry import MODELS

COMMUNITY = "simulator/community"
FIRST = MODELS[COMMUNITY].version
IMAGE = MODELS["simulator/image"]
Enqueue = Callable[..., Awaitable[Receipt]]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch, simulator: Any) -> None:
    monkeypatch.setattr(paced_reads, "FIRST_PAUSE", 0.01)
    simulator.settings(limiter="off")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """`write("a/b", "c/d")`: a file with a row for each model."""

    def write(*models: str, name: str = "night", **values: Any) -> str:
        rows = [{"id": f"p{n}", "model": model, "input": {"prompt": "x", **values}} for n, model in enumerate(models)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return str(path)

    return write


@pytest.fixture
def enqueued(config: Config, redis: Redis, write: Callable[..., str]) -> Enqueue:
    """`await enqueued("a/b", replace=True)`; `settings` are those of the command."""

    async def run(*models: str, settings: dict[str, Any] | None = None, name: str = "night", **order: Any) -> Receipt:
        found = config.model_copy(update=settings or {})
        return await enqueue(Order(write(*models, name=name), **order), found, redis)

    return run


def models_of(folder: Folder) -> list[str]:
    return [json.loads(line)["model"] for line in folder.prompts.read_text().splitlines()]


def kept(folder: Folder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.models.read_text())["models"]
    return found


def asked(simulator: Any) -> int:
    return int(simulator.ledger(summary=True)["calls"].get("models", 0))


async def test_an_official_model_stays_by_name_and_its_version_is_noted(enqueued: Enqueue, folder: Folder) -> None:
    receipt = await enqueued("simulator/image", "simulator/image")
    assert (receipt.enqueued, receipt.pinned, receipt.warnings) == (2, {}, [])
    assert models_of(folder) == ["simulator/image"] * 2
    (entry,) = kept(folder).values()
    assert (entry["version"], entry["official"], entry["unchecked"]) == (IMAGE.version, True, None)
    assert entry["digest"].startswith("sha256:")
    assert entry["schema"]["required"] == ["prompt"]


async def test_a_model_is_asked_for_once_an_hour(
    enqueued: Enqueue, redis: Redis, config: Config, simulator: Any
) -> None:
    await enqueued(*["simulator/image", COMMUNITY] * 3)
    assert asked(simulator) == 2
    await enqueued("simulator/image", COMMUNITY, name="other")
    assert asked(simulator) == 2
    assert 3500 < await redis.ttl(keys.model(config.api_host, COMMUNITY)) <= 3600
    assert await redis.exists(keys.limit(config.api_host, "read")), "they take of the read limit"


async def test_a_community_model_is_pinned_for_good(
    enqueued: Enqueue, folder: Folder, simulator: Any, redis: Redis, config: Config
) -> None:
    receipt = await enqueued(COMMUNITY)
    assert receipt.pinned == {COMMUNITY: FIRST}
    second = simulator.publish(COMMUNITY)
    await redis.delete(keys.model(config.api_host, COMMUNITY))
    again = await enqueued(COMMUNITY, COMMUNITY)
    assert (again.enqueued, again.total, again.pinned) == (1, 2, {COMMUNITY: FIRST})
    assert models_of(folder) == [f"{COMMUNITY}:{FIRST}"] * 2
    other = await enqueued(COMMUNITY, name="other")
    assert other.pinned == {COMMUNITY: second}


async def test_the_pinned_version_is_what_is_created_and_what_results_say(
    cli: Callable[..., Any], write: Callable[..., str], simulator: Any, config: Config
) -> None:
    simulator.settings(predict_min=0.0, predict_max=0.0, queue_max=0.0, loose=0.0)
    answer = cli("run", write(COMMUNITY, width=16, height=16))
    assert answer.code == 0, answer.err
    assert f"{COMMUNITY} is no official model: all of the batch runs at its version {FIRST[:12]}" in answer.out
    assert [create["model"] for create in simulator.ledger()["creates"]] == [COMMUNITY]
    (line,) = Folder(config.output_dir, "night").results.read_text().splitlines()
    assert (json.loads(line)["model"], json.loads(line)["version"]) == (f"{COMMUNITY}:{FIRST}", FIRST)


async def test_a_retry_keeps_the_version(
    enqueued: Enqueue, config: Config, redis: Redis, folder: Folder, simulator: Any
) -> None:
    await enqueued(COMMUNITY)
    await Batches(redis).settle("night", 0, "failed")
    simulator.publish(COMMUNITY)
    assert (await retry("night", config, redis)).enqueued == 1
    assert models_of(folder) == [f"{COMMUNITY}:{FIRST}"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("simulator/none", "lines 1 and 2: simulator/none: it does not exist, or your token does not see it"),
        ("simulator/private", "it does not exist, or your token does not see it"),
        ("deployments/simulator/none", "it does not exist, or your token does not see it"),
        ("simulator/unborn", "it has no version that could run"),
        (f"{COMMUNITY}:{'0' * 64}", f"simulator/community has no such version; did you mean {COMMUNITY}:{FIRST}?"),
        (f"simulator/none:{FIRST}", "it does not exist, or your token does not see it"),
    ],
)
async def test_a_model_that_cannot_run_is_an_error_of_its_rows(
    enqueued: Enqueue, folder: Folder, model: str, message: str
) -> None:
    with pytest.raises(PromptsError) as caught:
        await enqueued(model, model, "simulator/image")
    assert message in str(caught.value)
    assert caught.value.count == 2
    assert not folder.path.exists()


async def test_a_token_that_sees_nothing(enqueued: Enqueue, simulator: Any) -> None:
    simulator.settings(sees_models=False)
    with pytest.raises(PromptsError, match="simulator/image: it does not exist, or your token does not see it"):
        await enqueued("simulator/image")


@pytest.mark.parametrize("wrong", ["simulator/imgae", "Simulator/Image", "simulator/image-"])
async def test_a_name_of_an_earlier_batch_is_suggested(enqueued: Enqueue, wrong: str) -> None:
    await enqueued("simulator/image", name="earlier")
    with pytest.raises(PromptsError, match=r"did you mean simulator/image\?"):
        await enqueued(wrong)


@pytest.mark.parametrize(
    "model",
    [
        "deployments/simulator/studio",
        "deployments/simulator/atelier",
        f"{COMMUNITY}:{FIRST}",
        f"simulator/image:{IMAGE.version}",
    ],
)
async def test_rows_for_versions_and_deployments_are_checked(enqueued: Enqueue, folder: Folder, model: str) -> None:
    receipt = await enqueued(model)
    assert (receipt.warnings, receipt.pinned, models_of(folder)) == ([], {}, [model])
    assert kept(folder)[model]["schema"]["required"] == ["prompt"]


@pytest.mark.parametrize(
    ("model", "warning"),
    [
        (FIRST, "a version alone cannot be looked up; write owner/name:version"),
        ("simulator/formless", "the API shows no schema of its input"),
    ],
)
async def test_what_cannot_be_checked_is_told(enqueued: Enqueue, model: str, warning: str) -> None:
    receipt = await enqueued(model, model)
    assert receipt.warnings == [f"line 1 and 1 more: not checked against {model}: {warning}"]
    assert receipt.enqueued == 2


async def test_a_schema_that_refers_to_itself(enqueued: Enqueue) -> None:
    assert (await enqueued("simulator/circular")).warnings == []


async def test_all_mistakes_are_told_before_anything_is_spent(
    cli: Callable[..., Any], tmp_path: Path, simulator: Any
) -> None:
    rows = [{"prompt": "x", "num_output": 1}] * 1000 + [{"id": "two words", "prompt": "x"}, {"width": 4, "prompt": "x"}]
    (tmp_path / "bad.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    unknown = "simulator/image has no input 'num_output'"
    for arguments in (["enqueue"], ["enqueue", "--check"], ["run"]):
        answer = cli(*arguments, "bad.jsonl", "--model", "simulator/image")
        assert answer.code == 2
        assert answer.err.splitlines() == [
            "Error: bad.jsonl: 1002 errors; nothing was enqueued",
            f"  lines 1, 2, 3, 4, 5 and 995 more: {unknown}; did you mean 'num_outputs'?",
            "  line 1001: the id 'two words' is not 1 to 128 characters of A-Z a-z 0-9 . _ - without a leading dot",
            "  line 1002: 'width' is 4, less than 8, the least of simulator/image",
        ]
    assert simulator.ledger(summary=True)["created"] == 0
    allowed = cli("enqueue", "bad.jsonl", "--model", "simulator/image", "--allow-unknown")
    assert "bad.jsonl: 2 errors" in allowed.err


async def test_cells_of_a_table_are_read_by_the_schema(
    config: Config, redis: Redis, folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "night.csv").write_text('prompt,code,steps,tiled,sizes\nTRUE,007,7.0,TRUE,"[1, 2]"\n')
    order = Order(str(tmp_path / "night.csv"), model="simulator/everything")
    await enqueue(order, config, redis)
    (line,) = folder.prompts.read_text().splitlines()
    assert json.loads(line)["input"] == {"prompt": "TRUE", "code": "007", "steps": 7, "tiled": True, "sizes": [1, 2]}
    assert (await enqueue(order, config, redis)).total == 1


async def test_a_batch_of_the_version_before_goes_on(
    enqueued: Enqueue, folder: Folder, config: Config, redis: Redis, tmp_path: Path
) -> None:
    """It has no models.json, names without versions, and cells as they were guessed."""
    await enqueued(COMMUNITY, "simulator/image", model_check=False)
    assert not folder.models.exists()
    again = await enqueued(COMMUNITY, "simulator/image", COMMUNITY)
    assert (again.enqueued, again.total) == (1, 3)
    assert models_of(folder) == [COMMUNITY, "simulator/image", f"{COMMUNITY}:{FIRST}"]
    (tmp_path / "table.csv").write_text("prompt,code,steps\nx,7,7.0\n")
    table = Order(str(tmp_path / "table.csv"), model="simulator/everything", model_check=False)
    await enqueue(table, config, redis)
    checked = Order(str(tmp_path / "table.csv"), model="simulator/everything")
    assert (await enqueue(checked, config, redis)).enqueued == 0


async def test_rows_that_were_refused_without_a_version_are_replaced(
    enqueued: Enqueue, folder: Folder, redis: Redis, config: Config
) -> None:
    await enqueued(COMMUNITY, model_check=False)
    await Batches(redis).settle("night", 0, "failed")
    await Batches(redis).finish("night")
    await redis.zrem(keys.queue(config.api_host), "night:0:0")
    assert (await enqueued(COMMUNITY, replace=True)).enqueued == 1
    assert models_of(folder) == [f"{COMMUNITY}:{FIRST}"]


async def test_a_retry_pins_what_was_enqueued_before_its_model_was_looked_up(
    enqueued: Enqueue, folder: Folder, redis: Redis, config: Config
) -> None:
    await enqueued(COMMUNITY, model_check=False)
    await Batches(redis).settle("night", 0, "failed")
    assert (await enqueued(COMMUNITY)).pinned == {COMMUNITY: FIRST}
    assert models_of(folder) == [COMMUNITY]
    await retry("night", config, redis)
    assert models_of(folder) == [f"{COMMUNITY}:{FIRST}"]


async def test_without_a_token_the_user_has_to_say_so(enqueued: Enqueue, folder: Folder) -> None:
    with pytest.raises(ModelsUnknown) as caught:
        await enqueued("simulator/image", settings={"replicate_api_token": None})
    said = str(caught.value)
    assert "was not checked against its models: REPLICATE_API_TOKEN is not set; nothing was enqueued" in said
    assert "--no-model-check" in said
    assert not folder.path.exists()
    receipt = await enqueued("simulator/image", settings={"replicate_api_token": None}, model_check=False)
    assert receipt.enqueued == 1
    assert (await enqueued("a/b", settings={"model_check": False}, name="other")).enqueued == 1


async def test_what_the_folder_knows_needs_no_api(enqueued: Enqueue, redis: Redis, folder: Folder) -> None:
    await enqueued(COMMUNITY, "simulator/image")
    await redis.flushall()
    away = {"replicate_api_token": None}
    again = await enqueued(COMMUNITY, "simulator/image", COMMUNITY, settings=away)
    assert (again.total, again.pinned) == (3, {COMMUNITY: FIRST})
    unchecked = await enqueued(*[COMMUNITY, "simulator/image", COMMUNITY, COMMUNITY], settings=away, model_check=False)
    assert (unchecked.total, unchecked.pinned) == (4, {COMMUNITY: FIRST})
    with pytest.raises(ModelsUnknown):
        await enqueued(COMMUNITY, "simulator/image", COMMUNITY, COMMUNITY, "simulator/text", settings=away)
    own_names = [f"{COMMUNITY}:{FIRST}", "simulator/image"]
    assert (await enqueued(*own_names, settings=away)).enqueued == 0, "as a schedule goes on, from the batch's own copy"
    assert models_of(folder) == [f"{COMMUNITY}:{FIRST}", "simulator/image", *[f"{COMMUNITY}:{FIRST}"] * 2]


@pytest.mark.parametrize(
    "fault",
    [
        {"error": {"next": 3, "status": 500}},
        {"reset": {"next": 3}},
        {"throttle": {"next": 2, "seconds": 0.05}},
    ],
)
async def test_a_passing_trouble_is_outlasted(enqueued: Enqueue, simulator: Any, fault: dict[str, Any]) -> None:
    simulator.control(**{name: {**options, "kinds": ["models"]} for name, options in fault.items()})
    assert (await enqueued("simulator/image")).enqueued == 1


async def test_an_api_that_is_away_is_told(enqueued: Enqueue, simulator: Any) -> None:
    simulator.control(error={"rate": 1, "status": 503, "form": "html"})
    with pytest.raises(ModelsUnknown, match="something else answers in the API's place"):
        await enqueued("simulator/image")
    simulator.clear()
    with pytest.raises(ModelsUnknown, match="no connection to 127"):
        await enqueued("simulator/image", settings={"replicate_base_url": "http://127.0.0.1:9"})
    simulator.settings(token="another")
    with pytest.raises(ModelsUnknown, match="does not accept REPLICATE_API_TOKEN"):
        await enqueued("simulator/image")


async def test_a_damaged_models_json_is_told(enqueued: Enqueue, folder: Folder) -> None:
    await enqueued("simulator/image")
    for damage in ("", "[]", '{"models": {"a/b": 1}}', '{"models": {"a/b": {"version": 1}}}'):
        folder.models.write_text(damage)
        with pytest.raises(StorageError, match=r"models\.json is not as it was written"):
            await enqueued("simulator/image")


async def test_commands_at_the_same_time_agree_on_one_version(
    enqueued: Enqueue,
    config: Config,
    redis: Redis,
    simulator: Any,
) -> None:
    @asynccontextmanager
    async def slow(place: Folder) -> AsyncIterator[None]:
        patch.undo()
        simulator.publish(COMMUNITY)
        await redis.delete(keys.model(config.api_host, COMMUNITY))
        await enqueued(COMMUNITY)
        async with locked(place):
            yield

    patch = pytest.MonkeyPatch()
    patch.setattr("jobs.enqueue.enqueue.locked", slow)
    with pytest.raises(InputError, match="another command has just enqueued 'night' with another version"):
        await enqueued(COMMUNITY)
    assert (await enqueued(COMMUNITY)).total == 1


async def test_a_check_asks_the_api_and_leaves_no_trace(
    config: Config, write: Callable[..., str], redis: Redis
) -> None:
    nowhere = config.model_copy(update={"redis_url": None})
    found = await check(Order(write(COMMUNITY, "simulator/image")), nowhere)
    assert (found.total, found.pinned) == (2, {COMMUNITY: FIRST})
    assert not config.output_dir.exists()
    assert await redis.keys("*") == []
