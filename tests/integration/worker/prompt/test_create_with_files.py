"""Prompts whose inputs have local files: what is sent, what is stored, and what a lost answer costs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.secret_inputs import Secrets
from jobs.state.ledger import Entry
from jobs.wire import Batch, Prompt
from tests.integration.worker.prompt.works import filed_work, record_of, refer_to, work_on
from worker.context import Context, Work
from worker.prompt import create as creation
from worker.prompt.admission import permit
from worker.prompt.create import Created, Postponed, search
from worker.prompt.predict import predict
from worker.timing import Timing

DAY = 86_400.0


@pytest.fixture
def timing() -> Timing:
    return Timing(jitter=lambda: 0.0, create_timeout=0.5, sure_after=0.5)


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1, sign_uploads=1.0)
    worker = await open_worker()
    await open_batch(worker, total=9)
    return worker


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    return a_file(tmp_path / "cat.txt", b"a cat")


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    return a_file(tmp_path / "dog.txt", b"a dog")


def a_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def create(work: Work) -> Entry:
    async with permit(work, await work.ledger.read()) as granted:
        outcome = await creation.create(work, granted)
    assert isinstance(outcome, Created)
    return outcome.entry


def contents_by_prediction(simulator: Any) -> dict[str, list[str]]:
    """The sha256 of the files that each prediction got."""
    ledger = simulator.ledger()
    contents = {row["id"]: row["sha256"] for row in ledger["uploads"]}
    return {made["id"]: [contents[id_] for id_ in made["uploads"]] for made in ledger["creates"]}


def uploaded(simulator: Any) -> list[dict[str, Any]]:
    """The uploads there ever were; those of the small files in the order of their contents, then of their times."""
    found: list[dict[str, Any]] = simulator.ledger()["uploads"]
    return sorted(found, key=lambda row: (row["sha256"] != refer_sha(b"a dog"), row["created_at"]))


def refer_sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_the_model_gets_the_file_and_the_record_keeps_the_reference(
    worker: Context, simulator: Any, cat: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    work = filed_work(worker, 0, cat)
    await predict(work)
    result = record_of(work)
    assert (result.status, result.input) == ("succeeded", work.prompt.input)
    assert contents_by_prediction(simulator) == {result.prediction_id: [refer_to(cat)["sha256"]]}
    assert "↑ night/cat.txt ● 0.0 MB" in caplog.text
    assert "signature" not in caplog.text
    stored = (work.folder.prompt(work.prompt.id) / "prediction.json").read_text()
    assert stored.count("signature=") == stored.count("signature=…") > 0


@pytest.mark.parametrize("how", ["reset", "502"])
async def test_a_lost_answer_is_found_by_the_file(worker: Context, simulator: Any, cat: Path, how: str) -> None:
    """The list shows another URL of the upload than the one that was sent."""
    simulator.control(lost_answer={"next": 1, "how": how, "kinds": ["create"]})
    entry = await create(filed_work(worker, 0, cat))
    assert [entry.prediction_id] == [made["id"] for made in simulator.ledger()["creates"]]
    assert (entry.attempt, entry.unknown_creates) == (1, 0)


async def test_prompts_that_differ_in_their_files_never_swap_predictions(
    worker: Context, simulator: Any, cat: Path, dog: Path
) -> None:
    works = [filed_work(worker, 0, cat), filed_work(worker, 1, dog), filed_work(worker, 2, cat)]
    simulator.control(lost_answer={"next": 3, "how": "reset", "kinds": ["create"]})
    entries = await asyncio.gather(*map(create, works))
    contents = contents_by_prediction(simulator)
    assert [contents[str(entry.prediction_id)] for entry in entries] == [
        [work.prompt.input["references"][0]["sha256"]] for work in works
    ]
    assert len(contents) == 3


async def test_a_worker_that_died_after_its_post_is_found_by_an_earlier_upload(
    worker: Context, open_worker: Callable[..., Awaitable[Context]], cat: Path
) -> None:
    """Its upload was replaced meanwhile."""
    work = filed_work(worker, 0, cat)
    async with permit(work, Entry()) as granted:
        intent = await work.ledger.intend(Entry())
        made = await worker.replicate.create(work.prompt.model, granted.input)
    records, sha256 = worker.uploads.records(work.shard), refer_to(cat)["sha256"]
    upload = (await records.read([sha256]))[sha256].current
    assert upload
    nonce = await records.begin(sha256)
    assert nonce
    assert await records.record(sha256, nonce, replace(upload, id="another"), doubled=False)
    other = await open_worker()
    assert (await search(filed_work(other, 0, cat), intent)).prediction_id == made.id


async def test_an_upload_that_expires_while_a_prompt_waits_is_renewed(
    worker: Context, simulator: Any, cat: Path
) -> None:
    work = filed_work(worker, 0, cat)
    async with permit(work, Entry()) as granted:
        simulator.advance(DAY - 600)
        await worker.replicate.account()
        assert isinstance(await creation.create(work, granted), Postponed)
    assert await work.ledger.read() == Entry()
    await predict(work)
    assert record_of(work).status == "succeeded"
    ledger = simulator.ledger()
    assert [len(row["used_by"]) for row in ledger["uploads"]] == [0, 1]
    assert (await worker.batches.get("night")).predictions == ledger["created"] == 1


async def test_a_file_that_somebody_deleted_at_replicate_is_uploaded_again(
    worker: Context, simulator: Any, cat: Path, dog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    work = filed_work(worker, 0, dog, cat)
    uploads = await worker.uploads.ensure(work.shard, work.prompt, work.folder.path, work.order)
    await worker.uploads.sender.files.delete(uploads[refer_to(cat)["sha256"]].id)
    await predict(work)
    result = record_of(work)
    assert (result.status, result.attempts) == ("succeeded", 2)
    assert [(row["deleted_at"] is None, len(row["used_by"])) for row in uploaded(simulator)] == [
        (True, 2),
        (False, 1),
        (True, 1),
    ]
    assert "the model could not fetch the upload of a local file; again in" in caplog.text
    assert "signature" not in caplog.text


async def test_a_prompt_whose_uploads_never_last_fails_in_the_end(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.control(short_upload={"rate": 1.0, "seconds": 20})
    values = {"image": refer_to(cat), "queue_time": 30}
    work = work_on(worker, Prompt(0, "cat", "simulator/everything", values))
    most = worker.config.max_attempts
    running = asyncio.create_task(predict(work))
    while not running.done():
        simulator.advance(20)
        await asyncio.sleep(0.05)
    result = record_of(work)
    assert result.error
    assert (result.error.kind, result.attempts) == ("input_file", most)


async def test_a_file_that_changed_is_an_error_of_its_rows_and_costs_nothing(
    worker: Context, simulator: Any, cat: Path, dog: Path
) -> None:
    works = [filed_work(worker, 0, cat), filed_work(worker, 1, dog), filed_work(worker, 2, cat, dog)]
    a_file(cat, b"a bat")
    await asyncio.gather(*map(predict, works))
    errors = [record_of(work).error for work in works]
    assert [error.kind if error else None for error in errors] == ["input_file", None, "input_file"]
    assert errors[0]
    assert f"{cat} has changed since it was enqueued" in errors[0].message
    batch = await worker.batches.get("night")
    assert (batch.failed, batch.predictions, simulator.ledger()["created"]) == (2, 1, 1)


async def test_a_file_and_a_secret_are_sent_together(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.control(lost_answer={"next": 1, "how": "reset", "kinds": ["create"]})
    worker = replace(worker, secrets=Secrets({"PROVIDER_KEY": "sk-live-0123456789"}))
    values = {"image": refer_to(cat), "key": {"$env": "PROVIDER_KEY"}, "options": {"mask": refer_to(cat)}}
    work = work_on(worker, Prompt(0, "cat", "simulator/everything", values))
    await predict(work)
    (made,) = simulator.ledger()["creates"]
    assert made["input"]["key"] == "sk-live-0123456789"
    assert made["input"]["options"]["mask"] == made["input"]["image"]
    assert record_of(work).input == values
    assert "sk-live" not in json.dumps(record_of(work).model_dump())
