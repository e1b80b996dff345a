from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from arq.worker import RetryJob
from redis.exceptions import RedisError

from jobs.batch_folder.folder import Folder
from jobs.model_limits import ModelLimits
from jobs.operations.operations import Operations
from jobs.queue.payload import Parcel, pack
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.predictions import RETENTION
from jobs.state.ledger import Entry
from jobs.state.pending import PendingPrompt
from jobs.state.status import read_status
from jobs.state.waits import Waits
from jobs.wire import Batch, Prompt, Result, Shard, timestamp
from tests.integration.worker.prompt.works import CAT, INPUT, record_of, work_on
from worker.context import Context
from worker.limits.model_limiter import ModelLimiter
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.outputs import download
from worker.outputs.download import TRIES
from worker.polling import poll_policy
from worker.prompt import predict as story
from worker.prompt.predict import predict
from worker.shard.finish import finish_batch, finish_left_over
from worker.shard.run import predict_shard, run_shard
from worker.timing import Timing

AT_ONCE = download.Timing(first_pause=0.0)
DOG = Prompt(1, "dog", "simulator/image", {**INPUT, "prompt": "dog"})


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1, loose=0.0)
    worker = await open_worker(max_in_flight=1, max_attempts=2)
    await open_batch(worker, CAT, DOG)
    return worker


def record(worker: Context, prompt: Prompt = CAT) -> Result:
    return record_of(work_on(worker, prompt))


async def test_a_prompt_becomes_a_record_with_its_file(worker: Context) -> None:
    await predict(work_on(worker))
    result = record(worker)
    assert (result.status, result.attempts, result.index, result.input) == ("succeeded", 1, 0, INPUT)
    assert result.output == ["cat/output_0.png"]
    assert (work_on(worker).folder.path / result.files[0].path).stat().st_size == result.files[0].bytes
    assert result.created_at
    assert result.completed_at
    assert result.saved_at
    assert result.metrics["predict_time"] > 0
    received = json.loads((work_on(worker).folder.prompt("cat") / "prediction.json").read_text())["prediction"]
    assert received["id"] == result.prediction_id
    assert received["output"][0].startswith("http")
    assert (await worker.batches.get("night")).succeeded == 1


async def test_a_settled_prompt_is_skipped(worker: Context, simulator: Any) -> None:
    await worker.batches.settle("night", 0, "succeeded")
    await predict(work_on(worker))
    assert simulator.ledger()["calls"].get("create", 0) == 0


async def test_a_record_on_disk_settles_and_asks_nobody(worker: Context, simulator: Any) -> None:
    await predict(work_on(worker))
    await worker.redis.delete(keys.settled("night"))
    calls = simulator.ledger()["calls"]
    await predict(work_on(worker))
    assert simulator.ledger()["calls"] == calls
    assert 0 in await worker.batches.settled("night")


async def test_a_running_prediction_is_attached_to_without_a_slot(worker: Context, simulator: Any) -> None:
    made = await worker.replicate.create(CAT.model, CAT.input)
    await work_on(worker).ledger.record(await work_on(worker).ledger.intend(Entry()), made.id)
    async with worker.in_flight.turn(0):  # the only one
        await predict(work_on(worker))
    assert record(worker).prediction_id == made.id
    assert simulator.ledger()["created"] == 1


async def test_prompts_wait_in_the_order_of_their_batches_virtual_times_and_files(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    names = ["huge 0", "huge 1", "huge 2", "small 0", "small 1"]
    scores = {"huge": 200.0, "small": 105.0}
    await worker.batches.open(replace(await worker.batches.get("night"), total=len(names)))
    works = [
        replace(work_on(worker, Prompt(index, str(index), CAT.model, {**CAT.input, "prompt": name})), score=score)
        for index, name in enumerate(names)
        for score in [scores[name.partition(" ")[0]]]
    ]
    async with worker.in_flight.turn(0):
        tasks = [asyncio.create_task(predict(one)) for one in [*works[2::-1], *works[:2:-1]]]
        await eventually(lambda: worker.in_flight.waiting == len(names))
    await asyncio.gather(*tasks)
    made = [create["input"]["prompt"] for create in simulator.ledger()["creates"]]
    assert made == ["small 0", "small 1", "huge 0", "huge 1", "huge 2"]


async def test_a_models_own_limit_holds_and_other_models_pass_by(worker: Context, simulator: Any) -> None:
    limits = ModelLimits.parse("simulator/image=max 2")
    worker = replace(
        worker, model_limiter=ModelLimiter(worker.redis, worker.config.model_copy(update={"model_limits": limits}))
    )
    others = replace(worker, in_flight=PrioritySemaphore(10))
    await worker.batches.open(replace(await worker.batches.get("night"), total=10))
    prompts = [
        Prompt(index, str(index), model, {"prompt": str(index), "predict_time": 0.3})
        for index in range(8)
        for model in ["simulator/text" if index > 5 else "simulator/image"]
    ]
    await asyncio.gather(*(predict(work_on(others, prompt)) for prompt in prompts))
    made = {create["input"]["prompt"]: create for create in simulator.ledger()["creates"]}
    order = sorted(made, key=lambda prompt: made[prompt]["created_at"])
    assert len(made) == 8
    assert {"6", "7"} <= set(order[:5]), "they do not wait behind those that do"
    spans = [(made[str(n)]["created_at"], record(worker, prompts[n])) for n in range(6)]
    begun = sorted(at for at, _ in spans)
    ends = sorted(at + 0.3 for at in begun)
    assert all(begun[n + 2] >= ends[n] for n in range(4)), "never three at once"
    assert await worker.redis.zcard(keys.model_in_flight(worker.config.api_host, "simulator/image")) == 0


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_a_batch_that_is_over_leaves_its_models_limit_to_others(
    worker: Context, simulator: Any, redis: Redis, eventually: Callable[..., Any], how: str
) -> None:
    limits = ModelLimits.parse("simulator/image=max 1")
    worker = replace(
        worker, model_limiter=ModelLimiter(redis, worker.config.model_copy(update={"model_limits": limits}))
    )
    simulator.settings(predict_min=60.0, predict_max=60.0)
    shard = work_on(worker).shard
    running = asyncio.create_task(run_shard(replace(worker, in_flight=PrioritySemaphore(10)), shard))
    await eventually(lambda: redis.hlen(keys.ledger("night")))
    desk = Operations(worker.config, redis)
    await (desk.cancel("night") if how == "cancel" else desk.delete("night", force=True))
    await running
    await worker.batches.open(Batch("day", "b2", worker.config.api_host, 1.0, 1, 0, 1.0))
    await worker.model_limiter.start("simulator/image", "day/x")


async def test_an_intent_of_a_dead_worker_is_searched_for(worker: Context, simulator: Any) -> None:
    await work_on(worker).ledger.intend(Entry())
    made = await worker.replicate.create(CAT.model, CAT.input)
    await predict(work_on(worker))
    assert record(worker).prediction_id == made.id
    assert simulator.ledger()["created"] == 1


async def backdate(worker: Context, seconds: float) -> Entry:
    """Let the prompt's intent be so much older."""
    stored = json.loads(await worker.redis.hget(keys.ledger("night"), "0"))
    stored["at"] -= seconds
    await worker.redis.hset(keys.ledger("night"), "0", json.dumps(stored))
    return await work_on(worker).ledger.read()


async def test_a_prediction_that_is_lost_is_attempted_anew(worker: Context) -> None:
    await work_on(worker).ledger.record(await work_on(worker).ledger.intend(Entry()), "nosuchprediction")
    await backdate(worker, poll_policy.NEW)
    await predict(work_on(worker))
    result = record(worker)
    assert (result.status, result.attempts, len(result.prediction_ids)) == ("succeeded", 2, 2)


@pytest.mark.parametrize(
    ("fault", "kind", "attempts"),
    [
        ({"failed": {"rate": 1.0, "text": "shapes cannot be broadcast"}}, "model_error", 1),
        ({"failed": {"rate": 1.0}}, "model_error", 2),
        ({"canceled": {"rate": 1.0}}, "canceled", 2),
        ({"data_removed": {"rate": 1.0}}, "output_lost", 2),
        ({"redirect": {"rate": 1.0, "to": "http://127.0.0.9:1/x.png"}}, "file_refused", 1),
    ],
)
async def test_a_failure_says_what_failed(
    worker: Context, simulator: Any, fault: dict[str, Any], kind: str, attempts: int
) -> None:
    simulator.control(**fault)
    await predict(work_on(worker))
    result = record(worker)
    assert result.error
    assert (result.status, result.error.kind, result.attempts) == ("failed", kind, attempts)
    assert result.prediction_ids == tuple(made["id"] for made in simulator.ledger()["creates"])
    assert (await worker.batches.get("night")).failed == 1


async def test_a_prediction_that_never_ends_is_interrupted(worker: Context) -> None:
    made = await worker.replicate.create(CAT.model, {**CAT.input, "predict_time": 3600})
    await work_on(worker).ledger.record(await work_on(worker).ledger.intend(Entry()), made.id)
    await backdate(worker, worker.config.deadline + 61)
    await predict(work_on(worker))
    assert record(worker).attempts == 2


@pytest.mark.parametrize("skew", [-7200, 7200])
async def test_a_foreign_clock_makes_no_prediction_overdue(
    worker: Context, simulator: Any, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    original, asked = worker.replicate.create, list[float]()

    async def skewed(*arguments: Any) -> Any:
        made = await original(*arguments)
        return replace(made, raw={**made.raw, "created_at": timestamp(time.time() + skew)})

    async def wait(prediction_id: str, since: float, **options: Any) -> Any:
        asked.append(since)
        return await waited(prediction_id, since, **options)

    waited = worker.poller.wait
    monkeypatch.setattr(worker.replicate, "create", skewed)
    monkeypatch.setattr(worker.poller, "wait", wait)
    await predict(work_on(worker, replace(CAT, input={**INPUT, "predict_time": 1})))
    assert (record(worker).status, simulator.ledger()["created"]) == ("succeeded", 1)
    assert asked == [pytest.approx(time.time(), abs=60)]


async def test_an_output_that_ended_before_its_intent_is_kept_as_long_as_any(
    worker: Context, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, kept = worker.poller.wait, list[float]()
    original = worker.outputs.save

    async def wait(*arguments: Any, **options: Any) -> Any:
        ended = await waited(*arguments, **options)
        return replace(ended, raw={**ended.raw, "completed_at": timestamp(time.time() - 7200)})

    async def save(*arguments: Any) -> Any:
        kept.append(arguments[2] - time.time())
        return await original(*arguments)

    monkeypatch.setattr(worker.poller, "wait", wait)
    monkeypatch.setattr(worker.outputs, "save", save)
    await predict(work_on(worker))
    assert (record(worker).status, simulator.ledger()["created"]) == ("succeeded", 1)
    assert kept == [pytest.approx(RETENTION, abs=60)]


async def test_who_commits_first_wins(worker: Context, simulator: Any, eventually: Callable[..., Any]) -> None:
    rival = work_on(worker)
    predicting = asyncio.create_task(predict(work_on(worker, replace(CAT, input={**INPUT, "predict_time": 1}))))
    await eventually(lambda: simulator.ledger()["created"])
    theirs = Result(id="cat", index=0, status="succeeded", model="m", input={}, prediction_id="theirs")
    rival.folder.prompt("cat").mkdir()
    (rival.folder.prompt("cat") / "prediction.json").write_text(theirs.model_dump_json())
    await predicting
    assert record(worker).prediction_id == "theirs"
    assert not list((rival.folder.path / ".saving").iterdir())
    assert (await worker.batches.get("night")).succeeded == 1


async def told(worker: Context) -> str:
    return "; ".join(wait.sentence({}) for wait in await Waits(worker.redis).of("night"))


@pytest.mark.parametrize("timing", [Timing(jitter=lambda: 0.05)])
async def test_what_the_disk_refuses_is_saved_when_the_cause_is_gone(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    obstacle = work_on(worker).folder.path / ".saving"
    obstacle.write_text("in the way")
    predicting = asyncio.create_task(predict(work_on(worker)))
    trouble = await eventually(lambda: worker.folders.own_trouble(work_on(worker).folder.path))
    assert "cannot be written" in trouble
    obstacle.unlink()
    await predicting
    assert record(worker).status == "succeeded"
    assert simulator.ledger()["created"] == 1


@pytest.mark.parametrize("timing", [Timing(downloads=AT_ONCE)])
async def test_a_download_that_keeps_breaking_costs_no_new_prediction(worker: Context, simulator: Any) -> None:
    simulator.control(broken_body={"next": 2 * TRIES, "fraction": 0.0})
    await predict(work_on(worker))
    assert (record(worker).status, simulator.ledger()["created"]) == ("succeeded", 1)
    assert simulator.ledger()["faults"]["broken_body"] == 2 * TRIES


@pytest.mark.parametrize("timing", [Timing(retention=-3600.0, downloads=AT_ONCE)])
@pytest.mark.parametrize("fault", [{"broken_body": {"rate": 1.0, "fraction": 0.0}}, {"expired_file": {"rate": 1.0}}])
async def test_an_output_past_its_hour_is_lost(worker: Context, simulator: Any, fault: dict[str, Any]) -> None:
    simulator.control(**fault)
    await predict(work_on(worker))
    error = record(worker).error
    assert error
    assert (error.kind, simulator.ledger()["created"]) == ("output_lost", 2)


async def test_what_stands_in_the_way_of_one_record_holds_up_no_other(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    target = work_on(worker).folder.prompt("cat")
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    predicting = asyncio.create_task(predict(work_on(worker)))
    assert "in the way" in await eventually(lambda: told(worker))
    assert (await worker.account.trouble(), await worker.account.notice()) == (None, None)
    assert "create" not in simulator.ledger()["calls"], "nothing is paid for what cannot be kept"
    (target / "notes.txt").unlink()
    await predicting
    assert record(worker).status == "succeeded"


async def test_an_unreadable_record_is_a_failure_that_says_so(worker: Context, simulator: Any) -> None:
    target = work_on(worker).folder.prompt("cat")
    target.mkdir()
    (target / "prediction.json").write_text("{")
    await predict(work_on(worker))
    assert (await worker.batches.get("night")).failed == 1
    assert (target / "prediction.json").read_text() == "{"
    assert simulator.ledger()["created"] == 0


async def test_an_unexpected_error_ends_one_prompt_with_a_traceback_in_the_log(
    worker: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr(story, "judge", broken)
    monkeypatch.setattr(worker.outputs, "save", broken)
    await predict(work_on(worker))
    error = record(worker).error
    assert error
    assert (error.kind, error.message) == ("internal", "AttributeError: no such thing")
    assert "Traceback" in caplog.text


async def test_who_was_overtaken_makes_no_result_of_an_old_failure(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    """Another worker has begun the next attempt while this one still waits for a prediction, which fails."""
    simulator.control(failed={"next": 1, "text": "shapes cannot be broadcast"})
    work = work_on(worker, replace(CAT, input={**INPUT, "predict_time": 1}))
    predicting = asyncio.create_task(predict(work))

    async def is_recorded() -> bool:
        return (await work.ledger.read()).prediction_id is not None

    await eventually(is_recorded)
    again = await work.ledger.intend(await work.ledger.close(await work.ledger.read()))
    made = await worker.replicate.create(work.prompt.model, work.prompt.input)
    await work.ledger.record(again, made.id)
    await predicting
    result = record(worker)
    assert (result.status, result.attempts, simulator.ledger()["created"]) == ("succeeded", 2, 2)


async def test_a_file_that_comes_late_is_paid_for_once(worker: Context, simulator: Any) -> None:
    simulator.control(late_file={"rate": 1.0, "seconds": 2.5})
    await predict(work_on(worker))
    assert (record(worker).status, simulator.ledger()["created"]) == ("succeeded", 1)
    assert simulator.ledger()["faults"]["late_file"] > 2


async def test_an_output_on_an_unnamed_host_is_text_and_a_warning(
    worker: Context, caplog: pytest.LogCaptureFixture
) -> None:
    url = "https://elsewhere.example/x/out.png"
    echo = replace(CAT, model="simulator/echo", input={"output": [url]})
    await predict(work_on(worker, echo))
    assert (record(worker).output, record(worker).unsaved) == ([url], (url,))
    assert f"BATCH_OUTPUT_HOSTS does not name its host, or it is no URL: {url}" in caplog.text


@pytest.mark.parametrize(
    ("output", "unsaved", "host", "empty"),
    [
        ({"video": "https://storage.googleapis.com/b/clip", "seed": 7}, 1, "storage.googleapis.com", 0),
        (["https://a.example:8443/0.png", {"mask": "https://a.example/1.png"}, "a text"], 2, "a.example", 0),
        ("https://en.wikipedia.org/wiki/Cat", 0, None, 0),
        (None, 0, None, 1),
        ([], 0, None, 1),
        ("", 0, None, 1),
        ({}, 0, None, 1),
    ],
)
async def test_what_a_success_lacks_is_counted(
    worker: Context, output: Any, unsaved: int, host: str | None, empty: int
) -> None:
    await predict(work_on(worker, replace(CAT, model="simulator/echo", input={"output": output})))
    result = record(worker)
    assert (result.status, len(result.unsaved), result.empty) == ("succeeded", unsaved, bool(empty))
    status = await read_status(worker.redis, await worker.batches.get("night"))
    assert (status.succeeded, status.unsaved, status.unsaved_host, status.empty) == (1, unsaved, host, empty)


@pytest.mark.usefixtures("worker")
async def test_urls_that_are_left_on_purpose_are_not_counted(open_worker: Callable[..., Awaitable[Context]]) -> None:
    worker = await open_worker(use_file_output=False)
    echo = replace(CAT, model="simulator/echo", input={"output": ["https://a.example/0.png"]})
    await predict(work_on(worker, echo))
    assert record(worker).unsaved == ()


async def test_a_deep_output_can_be_read_back(worker: Context) -> None:
    deep: Any = "end"
    for _ in range(300):
        deep = [deep]
    await run_shard(
        worker, Shard("night", "b1", 0, 0, (replace(CAT, model="simulator/echo", input={"output": deep}), DOG))
    )
    assert (record(worker).status, record(worker).output) == ("succeeded", deep)
    assert (await worker.batches.get("night")).finished_at


@pytest.mark.parametrize("timing", [Timing(folder_retry=0.1)])
async def test_nothing_is_created_for_a_folder_that_cannot_be_written(
    worker: Context, simulator: Any, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    may_write = [False]
    monkeypatch.setattr("os.access", lambda *_: may_write[0])
    running = asyncio.create_task(run_shard(worker, Shard("night", "b1", 0, 0, (CAT, DOG))))
    assert "BATCH_OUTPUT_DIR" in await eventually(lambda: told(worker))
    assert simulator.ledger()["created"] == 0
    may_write[0] = True
    await running
    assert (await worker.batches.get("night")).succeeded == 2


@pytest.mark.parametrize("timing", [Timing(downloads=AT_ONCE)])
async def test_a_canceled_prompt_does_not_wait_for_a_broken_download(worker: Context, simulator: Any) -> None:
    simulator.control(broken_body={"rate": 1.0, "fraction": 0.0})
    made = await worker.replicate.create(CAT.model, CAT.input)
    await work_on(worker).ledger.record(await work_on(worker).ledger.intend(Entry()), made.id)
    await worker.poller.wait(made.id, time.time())
    await predict(work_on(worker), canceled=story.BATCH_CANCELED)
    assert record(worker).status == "canceled"


async def test_an_overdue_prediction_is_canceled_before_the_next(worker: Context, simulator: Any) -> None:
    simulator.control(unknown_status={"next": 1, "text": "pondering", "seconds": 10_000})
    made = await worker.replicate.create(CAT.model, {**CAT.input, "predict_time": 600})
    await work_on(worker).ledger.record(await work_on(worker).ledger.intend(Entry()), made.id)
    ended = await story.follow(work_on(worker), await backdate(worker, worker.config.deadline + 61))
    assert not ended.terminal
    assert simulator.ledger()["creates"][0]["status"] == "canceled"


@pytest.mark.parametrize("timing", [Timing(jitter=lambda: 0.05)])
async def test_a_disk_that_does_not_tell_is_asked_again(
    worker: Context, simulator: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker")
    record = work_on(worker).folder.prompt("cat")
    record.symlink_to(record)
    running = asyncio.create_task(run_shard(worker, Shard("night", "b1", 0, 0, (CAT, DOG))))
    await eventually(lambda: caplog.text.count("cannot be read: [Errno") > 2)
    record.unlink()
    await running
    assert (await worker.batches.get("night")).succeeded == 2
    assert simulator.ledger()["created"] == 2


async def test_trouble_with_redis_is_nobodys_result(worker: Context) -> None:
    await worker.batches.set_budget("night", None, None, 1)
    await worker.redis.set(keys.places("night"), "another program's")
    with pytest.raises(RedisError):
        await predict(work_on(worker, limited=True))
    assert 0 not in await worker.batches.settled("night")


async def test_what_was_known_of_a_prompt_may_be_out_of_date(worker: Context, simulator: Any) -> None:
    before = PendingPrompt(0, Entry())
    await predict(work_on(worker))
    await predict(replace(work_on(worker), known=before))
    open_one = await work_on(worker, DOG).ledger.intend(Entry())
    created = await worker.replicate.create(DOG.model, DOG.input)
    await work_on(worker, DOG).ledger.record(open_one, created.id)
    await predict(replace(work_on(worker, DOG), known=before))
    assert [record(worker, prompt).status for prompt in (CAT, DOG)] == ["succeeded", "succeeded"]
    assert simulator.ledger()["created"] == 2


class TestShard:
    shard = Shard("night", "b1", 0, 0, (CAT, DOG))
    parcel = Parcel(pack(shard).payload)

    async def test_the_last_prompt_finishes_the_batch(self, worker: Context) -> None:
        await run_shard(worker, self.shard)
        batch = await worker.batches.get("night")
        assert (batch.succeeded, bool(batch.finished_at)) == (2, True)
        lines = Folder(worker.config.output_dir, "night").results.read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["cat", "dog"]

    async def test_all_that_end_together_finish_the_batch_once_and_tidy_up(
        self, worker: Context, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "worker")
        folder = work_on(worker).folder
        left = [folder.path / f".{name}.1234abcd.part" for name in ("results.jsonl", "errors.jsonl", "index.html")]
        for part in left:
            part.touch()
        for index, prompt in enumerate((CAT, DOG)):
            await worker.batches.settle("night", index, "failed")
            folder.prompt(prompt.id).mkdir()
        await asyncio.gather(*(finish_batch(worker, self.shard) for _ in range(3)))
        assert caplog.text.count("is finished") == 1
        assert not any(part.exists() for part in left)
        assert folder.results.exists()

    async def test_a_shard_that_finds_all_settled_finishes_what_was_left_undone(self, worker: Context) -> None:
        for prompt in (CAT, DOG):
            await predict(work_on(worker, prompt))
        assert (await worker.batches.get("night")).finished_at is None
        await run_shard(worker, self.shard)
        assert (await worker.batches.get("night")).finished_at

    async def test_a_batch_whose_last_job_was_lost_is_finished_at_the_second_look(self, worker: Context) -> None:
        for prompt in (CAT, DOG):
            await predict(work_on(worker, prompt))
        complete = await finish_left_over(worker, set())
        assert complete == {"b1"}
        assert (await worker.batches.get("night")).finished_at is None
        assert await finish_left_over(worker, complete) == {"b1"}
        assert (await worker.batches.get("night")).finished_at
        assert work_on(worker).folder.gallery.exists()
        assert await finish_left_over(worker, complete) == set()

    @pytest.mark.parametrize("timing", [Timing(folder_retry=0.1)])
    async def test_results_that_cannot_be_written_are_trouble(
        self, worker: Context, eventually: Callable[..., Any]
    ) -> None:
        folder = Folder(worker.config.output_dir, "night")
        folder.results.mkdir()
        (folder.results / "x").write_text("in the way")
        running = asyncio.create_task(run_shard(worker, self.shard))
        assert "results.jsonl" in await eventually(lambda: told(worker))
        (folder.results / "x").unlink()
        folder.results.rmdir()
        await running
        assert (await worker.batches.get("night")).finished_at

    async def test_a_shard_of_a_deleted_batch_is_dropped(
        self, worker: Context, simulator: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        await worker.batches.delete("night")
        await run_shard(worker, self.shard)
        assert "deleted" in caplog.text
        assert simulator.ledger()["created"] == 0

    async def test_a_shard_of_an_older_batch_of_that_name_leaves_the_job_alone(self, worker: Context) -> None:
        with pytest.raises(RetryJob):
            await run_shard(worker, replace(self.shard, batch_id="older"))

    async def test_canceled_and_retried_at_once_nothing_is_left_behind(
        self, worker: Context, simulator: Any, eventually: Callable[..., Any]
    ) -> None:
        simulator.settings(predict_min=1.0, predict_max=1.5)
        running = asyncio.create_task(run_shard(worker, self.shard))
        await eventually(lambda: simulator.ledger()["created"])
        await worker.batches.request_cancel("night")
        await asyncio.sleep(0.2)
        await worker.batches.reopen("night", 1)
        await running
        batch = await worker.batches.get("night")
        assert (batch.settled, bool(batch.finished_at)) == (2, True)

    async def test_a_batch_deleted_while_it_is_being_canceled_lets_go(
        self, worker: Context, simulator: Any, eventually: Callable[..., Any]
    ) -> None:
        slow = tuple(replace(prompt, input={**prompt.input, "predict_time": 600}) for prompt in self.shard.prompts)
        running = asyncio.create_task(run_shard(worker, replace(self.shard, prompts=slow)))
        await eventually(lambda: simulator.ledger()["created"])
        simulator.control(error={"rate": 1.0, "kinds": ["cancel"]})
        await worker.batches.request_cancel("night")
        await eventually(lambda: simulator.ledger()["calls"].get("cancel"))
        await worker.batches.delete("night")
        await running
        assert await worker.account.trouble() is None

    async def test_a_damaged_record_does_not_keep_a_batch_from_finishing(self, worker: Context) -> None:
        target = work_on(worker).folder.prompt("cat")
        target.mkdir()
        (target / "prediction.json").write_text("{")
        await run_shard(worker, self.shard)
        batch = await worker.batches.get("night")
        assert (batch.succeeded, batch.failed, bool(batch.finished_at)) == (1, 1, True)
        first = json.loads(work_on(worker).folder.results.read_text().splitlines()[0])
        assert (first["id"], first["error"]["kind"]) == ("cat", "internal")

    async def test_what_goes_wrong_with_a_shard_leaves_it_in_the_queue(
        self, worker: Context, caplog: pytest.LogCaptureFixture
    ) -> None:
        await worker.redis.zadd(keys.queue(worker.config.api_host), {self.shard.job_id: 1})
        await worker.redis.execute_command("HSET", keys.batch("night"), "id", b"\xff")
        with caplog.at_level(logging.ERROR), pytest.raises(RetryJob):
            await predict_shard({"worker": worker, "lease": None, "job_id": "night:0:0", "job_try": 1}, self.parcel)
        assert "will be retried" in caplog.text

    async def test_a_shard_that_left_the_queue_is_not_run(self, worker: Context, simulator: Any) -> None:
        await predict_shard({"worker": worker, "lease": None, "job_id": "night:0:0", "job_try": 1}, self.parcel)
        assert simulator.ledger()["created"] == 0

    async def test_a_worker_that_stops_leaves_the_shard(self, worker: Context) -> None:
        worker.leases.stopping.set()
        with pytest.raises(RetryJob):
            await predict_shard({"worker": worker, "lease": None, "job_id": "night:0:0", "job_try": 1}, self.parcel)

    async def test_canceled_before_it_began_everything_settles_canceled(self, worker: Context, simulator: Any) -> None:
        await worker.batches.request_cancel("night")
        await run_shard(worker, self.shard)
        assert simulator.ledger()["created"] == 0
        batch = await worker.batches.get("night")
        assert (batch.canceled, bool(batch.finished_at)) == (2, True)
        assert record(worker).status == "canceled"

    async def test_an_ambiguous_create_of_a_canceled_batch_is_found_and_ended(
        self, worker: Context, simulator: Any
    ) -> None:
        await work_on(worker).ledger.intend(Entry())
        await worker.replicate.create(CAT.model, {**CAT.input, "predict_time": 600})
        slow = replace(CAT, input={**CAT.input, "predict_time": 600})
        await worker.batches.request_cancel("night")
        await run_shard(worker, replace(self.shard, prompts=(slow, DOG)))
        (made,) = simulator.ledger()["creates"]
        assert made["status"] == "canceled"
        assert record(worker).prediction_id == made["id"]


@pytest.mark.parametrize("created", [False, True])
async def test_who_stalled_past_its_lease_neither_creates_nor_commits(
    worker: Context, simulator: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture, *, created: bool
) -> None:
    caplog.set_level(logging.DEBUG, "worker")
    if created:
        made = await worker.replicate.create(CAT.model, CAT.input)
        await work_on(worker).ledger.record(await work_on(worker).ledger.intend(Entry()), made.id)
    lease = await worker.leases.acquire("night:0", "")
    assert lease
    lease.renewed_at = asyncio.get_running_loop().time() - 1000
    prompt = asyncio.create_task(predict(work_on(worker)))
    await eventually(lambda: "stalled past its lease" in caplog.text)
    assert simulator.ledger()["created"] == int(created)
    assert work_on(worker).folder.read_record("cat") is None
    lease.renewed_at = asyncio.get_running_loop().time() + 1000
    await prompt
    assert record(worker).status == "succeeded"
    assert simulator.ledger()["created"] == 1
    await worker.leases.release(lease)
