"""`python -m worker orphans`: what runs for nobody, whose it is, and ending it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.account.account import Account
from jobs.batch_folder.folder import RETRIED, Folder
from jobs.batch_folder.manifest import Manifest, write_manifest
from jobs.config import Config
from jobs.enqueue.enqueue import Order, enqueue
from jobs.errors import ConfigError
from jobs.operations.operations import Operations
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.client import api_client
from jobs.replicate_api.files import Files
from jobs.replicate_api.predictions import Replicate
from jobs.state.batches import Batches
from jobs.state.claims import Claims
from jobs.state.ledger import Ledger
from jobs.state.uploads import BatchUploads, Upload
from jobs.wire import Batch, Result
from tests.integration.worker.prompt.works import refer_to
from tests.json_outputs import is_as_described
from worker.cli import app
from worker.orphans.audit import Orphan, open_audit

LATER = 120.0
"""Seconds after which a prediction is no longer too young to tell."""

RUNS = {"predict_time": 9000}
CAT, DOG = {"prompt": "cat", **RUNS}, {"prompt": "dog", "guidance": 7, **RUNS}


@pytest.fixture
async def replicate(config: Config, simulator: Any) -> AsyncIterator[Replicate]:
    simulator.settings(limiter="off", loose=0.0)
    async with api_client(config) as client:
        yield Replicate(client, config)


@pytest.fixture
async def pets(config: Config, redis: Redis, tmp_path: Path) -> Folder:
    """The folder of a batch with the prompts cat (0) and dog (1)."""
    rows = [
        {"id": "cat", "model": "simulator/text", "input": CAT},
        {"id": "dog", "model": "simulator/text", "input": DOG},
    ]
    (tmp_path / "pets.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    await enqueue(Order(str(tmp_path / "pets.jsonl"), allow_unknown=True), config, redis)
    return Folder(config.output_dir, "pets")


@pytest.fixture
def ledger(config: Config, redis: Redis, pets: Folder) -> Callable[[int], Ledger]:
    return lambda index: Ledger(redis, config.api_host, "pets", pets.batch_id() or "", index)


async def created(replicate: Replicate, given: dict[str, Any], model: str = "simulator/text") -> str:
    return (await replicate.create(model, given)).id


async def found(config: Config, *, seconds: float = 7200, cancel: bool = False) -> dict[str, Orphan]:
    async with open_audit(config) as audit:
        orphans = await audit.find(seconds)
        if cancel:
            await audit.cancel(orphans)
        return {orphan.id: orphan for orphan in orphans.orphans}


@pytest.mark.usefixtures("pets")
async def test_whose_an_orphan_is(config: Config, replicate: Replicate, simulator: Any) -> None:
    ours, foreign = await created(replicate, CAT), await created(replicate, {"prompt": "a stranger's"})
    rewritten = await created(replicate, {**DOG, "guidance": 7.0})
    other_model = await created(replicate, CAT, "simulator/image")
    simulator.advance(LATER)
    orphans = await found(config)
    assert {id_: orphan.whose for id_, orphan in orphans.items()} == {
        ours: "ours", rewritten: "ours", foreign: "foreign", other_model: "foreign",
    }  # fmt: skip
    one = orphans[ours]
    assert (one.prompt, one.model, one.running) == ("pets/cat", "simulator/text", True)
    assert one.age
    assert abs(one.age - LATER) < 30, "the API tells its time in whole seconds"


async def test_a_prediction_is_known_without_its_secrets(
    config: Config, redis: Redis, replicate: Replicate, simulator: Any, tmp_path: Path
) -> None:
    row = {"id": "cat", "model": "simulator/everything", "input": {"prompt": "cat", "key": {"$env": "KEY"}}}
    (tmp_path / "secret.jsonl").write_text(json.dumps(row))
    await enqueue(Order(str(tmp_path / "secret.jsonl")), config, redis)
    ours = await created(replicate, {"prompt": "cat", "key": "the secret"}, "simulator/everything")
    other = await created(replicate, {"prompt": "dog", "key": "the secret"}, "simulator/everything")
    simulator.advance(LATER)
    assert {id_: orphan.whose for id_, orphan in (await found(config)).items()} == {ours: "ours", other: "foreign"}


@pytest.mark.parametrize("signed", [0.0, 1.0])
async def test_a_prediction_is_known_by_an_upload_that_its_prompt_names_by_url(
    config: Config, redis: Redis, replicate: Replicate, simulator: Any, tmp_path: Path, signed: float
) -> None:
    """The API shows another URL than it was sent."""
    simulator.settings(sign_uploads=signed)
    async with api_client(config) as client:
        urls = [(await Files(client).create(_pieces(), 3, "a.txt", "text/plain", {})).url for _ in range(2)]
    row: dict[str, Any] = {"id": "cat", "model": "simulator/everything", "input": {"prompt": "cat", "image": urls[0]}}
    (tmp_path / "own.jsonl").write_text(json.dumps(row))
    await enqueue(Order(str(tmp_path / "own.jsonl")), config, redis)
    simulator.settings(sign_uploads=1.0)
    ours, other = [await created(replicate, row["input"] | {"image": url}, str(row["model"])) for url in urls]
    shown = (await replicate.get(ours)).raw["input"]["image"]
    assert shown != urls[0]
    simulator.advance(LATER)
    assert {id_: orphan.whose for id_, orphan in (await found(config)).items()} == {ours: "ours", other: "foreign"}


async def _pieces() -> AsyncIterator[bytes]:
    yield b"cat"


async def test_a_prediction_is_known_by_the_uploads_of_its_files(
    config: Config, redis: Redis, replicate: Replicate, simulator: Any, tmp_path: Path
) -> None:
    """Also after Redis has forgotten the batch: then by any upload in the place of its file."""
    upload = Upload("f1", f"{config.replicate_base_url}/v1/files/f1", 9_999_999_999, 9_999_996_399)
    contents = [refer_to(a_file(tmp_path / f"{name}.txt", name)) for name in ("cat", "dog")]
    rows = [{"id": f"p{n}", "model": "simulator/everything", "input": {"image": one}} for n, one in enumerate(contents)]
    folder = batch_of(config, rows)
    await Batches(redis).open(Batch("night", "b1", config.api_host, 1.0, 2, 0, 1.0))
    records = BatchUploads(redis, "night", "b1")
    nonce = await records.begin(contents[0]["sha256"])
    assert nonce
    assert await records.record(contents[0]["sha256"], nonce, upload, doubled=False)
    model = "simulator/everything"
    urls = (f"{upload.url}/download?expiry=1&signature=x", f"{upload.url}0", "https://example.com/cat.txt")
    ours, another, no_file = [await created(replicate, {"image": url}, model) for url in urls]
    simulator.advance(LATER)
    orphans = await found(config)
    assert {id_: (orphan.whose, orphan.prompt) for id_, orphan in orphans.items()} == {
        ours: ("ours", "night/p0"), another: ("foreign", None), no_file: ("foreign", None),
    }  # fmt: skip
    await Batches(redis).delete("night")
    orphans = await found(config)
    assert {id_: orphan.whose for id_, orphan in orphans.items()} == {ours: "ours", another: "ours", no_file: "foreign"}
    assert folder.prompts.exists()


def a_file(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def batch_of(config: Config, rows: list[dict[str, Any]]) -> Folder:
    folder = Folder(config.output_dir, "night")
    folder.path.mkdir(parents=True)
    write_manifest(folder, Manifest("night", "b1", config.api_host, 1.0), fsync=False)
    folder.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


async def test_what_is_known_here_is_no_orphan(
    config: Config, replicate: Replicate, ledger: Callable[[int], Ledger], redis: Redis, simulator: Any
) -> None:
    claimed, in_ledger, recorded, retried = [await created(replicate, CAT) for _ in range(4)]
    cat = ledger(0)
    await cat.record(await cat.intend(await cat.read()), in_ledger)
    await redis.delete(f"replicate-batch:claim:{config.api_host}:{in_ledger}")
    dog = ledger(1)
    await dog.record(await dog.intend(await dog.read()), claimed)
    await redis.delete("replicate-batch:ledger:pets")
    await cat.record(await cat.intend(await cat.read()), in_ledger)
    await redis.delete(f"replicate-batch:claim:{config.api_host}:{in_ledger}")
    folder = Folder(config.output_dir, "pets")
    for place, prediction in (("cat", recorded), (f"{RETRIED}/cat.0", retried)):
        folder.prompt(place).mkdir(parents=True)
        result = Result(
            id="cat", index=0, status="succeeded", model="simulator/text", input=CAT, prediction_ids=(prediction,)
        )
        (folder.prompt(place) / "prediction.json").write_text(result.model_dump_json())
    simulator.advance(LATER)
    assert await found(config) == {}


@pytest.mark.usefixtures("pets")
async def test_what_a_deleted_batch_left_running_is_an_orphan_and_can_be_ended(
    config: Config, redis: Redis, replicate: Replicate, simulator: Any, ledger: Callable[[int], Ledger]
) -> None:
    left = await created(replicate, CAT)
    await ledger(0).record(await ledger(0).intend(await ledger(0).read()), left)
    simulator.advance(LATER)
    assert left not in await found(config)
    assert await Operations(config, redis).delete("pets", force=True) == 1
    assert (await found(config, cancel=True))[left].whose == "ours"
    assert simulator.ledger()["statuses"] == {"canceled": 1}


async def test_a_young_one_may_still_become_known(config: Config, replicate: Replicate) -> None:
    await created(replicate, CAT)
    async with open_audit(config) as audit:
        orphans = await audit.find(3600)
    assert (orphans.orphans, orphans.too_young, orphans.seen) == ([], 1, 1)


async def test_what_a_lost_create_may_adopt_is_left_alone(
    config: Config, replicate: Replicate, ledger: Callable[[int], Ledger], simulator: Any
) -> None:
    await ledger(0).intend(await ledger(0).read())
    cat, dog = await created(replicate, CAT), await created(replicate, DOG)
    simulator.advance(LATER)
    orphans = await found(config, cancel=True)
    assert {id_: (one.whose, one.canceled) for id_, one in orphans.items()} == {
        cat: ("looked_for", False), dog: ("ours", True),
    }  # fmt: skip
    assert [(await replicate.get(id_)).status for id_ in (cat, dog)] == ["processing", "canceled"]


@pytest.mark.usefixtures("pets")
async def test_what_is_canceled_can_be_adopted_no_more(
    config: Config, replicate: Replicate, redis: Redis, simulator: Any
) -> None:
    cat, stranger = await created(replicate, CAT), await created(replicate, {"prompt": "a stranger's", **RUNS})
    simulator.advance(LATER)
    orphans = await found(config, cancel=True)
    assert (orphans[cat].canceled, orphans[stranger].canceled) == (True, False)
    assert (await replicate.get(stranger)).status == "processing"
    assert await Claims(redis, config.api_host).unclaimed([cat]) == []
    assert list(await found(config)) == [stranger], "what is canceled is settled"


@pytest.mark.usefixtures("pets")
async def test_a_cancel_that_failed_is_said_and_can_be_repeated(
    config: Config, replicate: Replicate, simulator: Any
) -> None:
    cat = await created(replicate, CAT)
    simulator.advance(LATER)
    simulator.control(error={"next": 1, "kinds": ["cancel"]})
    first = (await found(config, cancel=True))[cat]
    assert (first.canceled, bool(first.error)) == (False, True)
    assert (await found(config, cancel=True))[cat].canceled


@pytest.mark.usefixtures("pets")
async def test_without_its_input_nobody_can_tell_whose_it_is(
    config: Config, replicate: Replicate, simulator: Any
) -> None:
    old = await created(replicate, {"prompt": "cat", "predict_time": 0})
    simulator.advance(5000)
    assert {id_: one.whose for id_, one in (await found(config, seconds=9000)).items()} == {old: "unknown"}
    assert await found(config, seconds=3000) == {}, "it is older than that"


async def test_a_batch_of_another_api_host_has_no_say(config: Config, replicate: Replicate, simulator: Any) -> None:
    folder = Folder(config.output_dir, "elsewhere")
    folder.path.mkdir(parents=True)
    write_manifest(folder, Manifest("elsewhere", "x", "api.example.com", time.time()), fsync=False)
    folder.prompts.write_text(json.dumps({"id": "cat", "input": CAT, "model": "simulator/text"}) + "\n")
    cat = await created(replicate, CAT)
    simulator.advance(LATER)
    assert (await found(config))[cat].whose == "foreign"


@pytest.mark.usefixtures("pets")
async def test_a_list_that_breaks_is_read_again(config: Config, replicate: Replicate, simulator: Any) -> None:
    cat = await created(replicate, CAT)
    simulator.advance(LATER)
    simulator.control(error={"next": 1, "kinds": ["list"]})
    assert list(await found(config)) == [cat]


async def test_a_refused_token_pauses_nobody(config: Config, redis: Redis, simulator: Any) -> None:
    simulator.settings(token="another")
    with pytest.raises(ConfigError, match="REPLICATE_API_TOKEN"):
        await found(config)
    assert await Account(redis, config.api_host).pause_reason() is None


@pytest.mark.usefixtures("pets")
async def test_the_command(cli: Callable[..., Any], replicate: Replicate, simulator: Any) -> None:
    answer = cli("orphans", module="worker")
    assert (answer.code, answer.err) == (0, "")
    assert "0 predictions since" in answer.out
    cat = await created(replicate, CAT)
    simulator.advance(LATER)
    answer = cli("orphans", "--since", "1h", module="worker")
    assert (answer.code, answer.err) == (1, "")
    row, advice, last = answer.out.splitlines()
    assert row == f"{cat}  simulator/text  processing, 2 min old: ours, like pets/cat"
    assert "--cancel ends them" in advice
    assert "1 that nothing here knows" in last
    answer = cli("orphans", "--cancel", "--json", module="worker")
    assert is_as_described("orphans", answer.out)
    assert answer.code == 0
    assert [(one["id"], one["canceled"]) for one in json.loads(answer.out)["orphans"]] == [(cat, True)]


@pytest.mark.parametrize("since", ["2", "h", "0h", "-1h", "400d", "two hours"])
def test_a_time_that_is_none(since: str) -> None:
    answer = CliRunner().invoke(app, ["orphans", "--since", since])
    assert answer.exit_code == 2
    assert "is not a time like 90m, 2h or 1d" in answer.output
