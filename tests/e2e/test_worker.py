from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.enqueue.enqueue import Order
from jobs.model_limits import ModelLimits

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1}
HASH = "0" * 64


def test_every_output_is_on_disk_in_order_and_paid_once(night: Any, worker_process: Callable[..., Any]) -> None:
    receipt = night.images(120)
    assert (receipt["total"], receipt["enqueued"], receipt["shards"], receipt["workers"]) == (120, 120, 2, 0)
    assert worker_process("--burst", **FAST).wait() == 0
    results = night.check()
    assert [result["input"]["prompt"] for result in results] == [f"cat {n}" for n in range(120)]
    assert {result["status"] for result in results} == {"succeeded"}
    assert {result["attempts"] for result in results} == {1}
    night.paid_once()
    status = night.status()
    assert (status["state"], status["succeeded"], status["waiting"], status["in_flight"]) == ("finished", 120, 0, 0)
    assert (night.folder / "index.html").is_file()


def test_doing_it_again_spends_nothing(night: Any, worker_process: Callable[..., Any]) -> None:
    night.images(5)
    assert worker_process("--burst", **FAST).wait() == 0
    receipt = night.images(5)
    assert (receipt["enqueued"], receipt["already_done"]) == (0, 5)
    assert worker_process("--burst", **FAST).wait() == 0
    assert night.ledger()["created"] == 5


def test_every_kind_of_model_reference_works(night: Any, worker_process: Callable[..., Any]) -> None:
    models = ["simulator/image", "deployments/simulator/studio"]
    night.enqueue(*({"model": model, "input": {"prompt": "cat", "width": 16, "height": 16}} for model in models))
    assert worker_process("--burst", **FAST).wait() == 0
    assert [result["status"] for result in night.check()] == ["succeeded", "succeeded"]
    assert [create["asked"] for create in night.ledger()["creates"]]


def test_blocking_mode_works(night: Any, worker_process: Callable[..., Any]) -> None:
    night.images(30)
    assert worker_process("--burst", prefer_wait=5, **FAST).wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()


def test_without_file_output_urls_stay_and_nothing_is_downloaded(
    night: Any, worker_process: Callable[..., Any]
) -> None:
    night.images(3)
    assert worker_process("--burst", use_file_output=False, **FAST).wait() == 0
    for result in night.check():
        assert result["files"] == []
        assert result["output"][0].startswith("http")
    assert night.ledger()["bytes_served"] == 0


def test_failures_say_what_failed(night: Any, worker_process: Callable[..., Any]) -> None:
    night.enqueue(
        {"id": "policy", "model": "simulator/image", "input": {"prompt": "nsfw"}},
        {"id": "model", "model": "simulator/flaky", "input": {"prompt": "x", "error": "model"}},
        {"id": "unknown", "model": "deployments/nobody/nothing", "input": {"prompt": "x"}},
        {"id": "invalid", "model": "simulator/image", "input": {"prompt": "x", "num_outputs": 9}},
        {"id": "once", "model": "simulator/flaky", "input": {"prompt": "x", "error": "PA", "times": 1}},
        {"id": "always", "model": "simulator/flaky", "input": {"prompt": "x", "error": "PA"}},
        model_check=False,
    )
    assert worker_process("--burst", max_attempts=2, **FAST).wait() == 0
    results = {result["id"]: result for result in night.check()}
    kinds = {id_: result["error"] and result["error"]["kind"] for id_, result in results.items()}
    assert kinds == {
        "policy": "content_policy",
        "model": "model_error",
        "unknown": "not_found",
        "invalid": "invalid_input",
        "once": None,
        "always": "interrupted",
    }
    assert {id_: result["attempts"] for id_, result in results.items()} == {
        "policy": 1, "model": 1, "unknown": 1, "invalid": 1, "once": 2, "always": 2,
    }  # fmt: skip
    assert results["policy"]["error"]["code"] == "E005"
    assert results["policy"]["prediction_id"]
    assert "num_outputs" in results["invalid"]["error"]["message"]
    night.paid_once()
    errors = [json.loads(line)["id"] for line in (night.folder / "errors.jsonl").read_text().splitlines()]
    assert errors == ["policy", "model", "unknown", "invalid", "always"]


def test_two_workers_share_a_batch(night: Any, worker_process: Callable[..., Any]) -> None:
    night.images(210)
    workers = [worker_process("--burst", max_in_flight=50, **FAST) for _ in range(2)]  # two job slots, three shards
    assert [worker.wait() for worker in workers] == [0, 0]
    night.check()
    night.paid_once()
    assert all("←" in worker.log() for worker in workers)


async def test_a_killed_worker_makes_no_difference(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=2.0, predict_max=3.0)
    night.images(120)
    first = worker_process(lease=1.0, max_in_flight=60, **FAST)
    await eventually(lambda: night.ledger()["created"] == 60)  # a create that was never sent is searched for a minute
    first.kill()
    assert worker_process("--burst", lease=1.0, **FAST).wait(90) == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    night.paid_once()


async def test_sigterm_leaves_predictions_running_and_the_next_worker_attaches(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=3.0, predict_max=4.0)
    night.images(30)
    first = worker_process(**FAST)
    await eventually(lambda: night.ledger()["created"] == 30)
    first.terminate()
    assert first.wait(20) == 0
    assert "Traceback" not in first.log()
    assert worker_process("--burst", **FAST).wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    assert night.ledger()["created"] == 30
    night.paid_once()


async def test_sigterm_in_the_middle_of_creates_pays_nothing_twice(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.control(delay={"rate": 1.0, "kinds": ["create"], "seconds": 0.3})
    night.images(200)
    for _ in range(3):
        before = night.ledger()["created"]
        worker = worker_process(**FAST)
        await eventually(lambda before=before: night.ledger()["created"] > before + 10)
        worker.terminate()
        assert worker.wait(20) == 0
    assert worker_process("--burst", **FAST).wait() == 0
    night.check()
    night.paid_once()


def test_lost_answers_are_found_again(night: Any, worker_process: Callable[..., Any]) -> None:
    night.simulator.control(lost_answer={"rate": 0.3, "how": "reset"})
    night.images(60)
    assert worker_process("--burst", **FAST).wait(90) == 0
    results = night.check()
    assert {result["status"] for result in results} == {"succeeded"}
    assert {result["unknown_creates"] for result in results} == {0}
    assert night.ledger()["created"] == 60
    night.paid_once()


def test_equal_prompts_keep_apart_when_answers_are_lost(night: Any, worker_process: Callable[..., Any]) -> None:
    night.simulator.control(lost_answer={"rate": 0.3, "how": "502"})
    row = {"model": "simulator/image", "input": {"prompt": "the same", "width": 16, "height": 16}}
    night.enqueue(*[row] * 40)
    assert worker_process("--burst", **FAST).wait(90) == 0
    night.check()
    assert night.ledger()["created"] == 40
    night.paid_once()


def test_broken_downloads_cost_no_second_prediction(night: Any, worker_process: Callable[..., Any]) -> None:
    night.simulator.control(truncated_body=0.2, broken_body=0.2, wrong_bytes=0.1)
    night.images(40)
    assert worker_process("--burst", **FAST).wait(90) == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    assert night.ledger()["created"] == 40


def test_throttling_uses_no_attempt(night: Any, worker_process: Callable[..., Any]) -> None:
    night.simulator.control(throttle={"next": 3, "kinds": ["create"], "seconds": 1, "form": "text"})
    night.images(20)
    assert worker_process("--burst", **FAST).wait(90) == 0
    assert {result["attempts"] for result in night.check()} == {1}
    assert night.ledger()["created"] == 20


async def test_a_block_page_and_a_false_401_fail_nobody_and_count_for_nothing(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    page = {"status": 403, "form": "html", "retry_after": 2, "kinds": ["create", "get", "list"]}
    night.simulator.control(error={"rate": 1.0, **page})
    night.images(20)
    workers = [worker_process("--burst", **FAST) for _ in range(2)]
    await eventually(lambda: "(403)" in (night.status()["reason"] or ""))
    night.simulator.clear()
    night.simulator.control(unauthorized={"next": 1, "kinds": ["create"]})
    assert [worker.wait(90) for worker in workers] == [0, 0]
    results = night.check()
    assert {(one["status"], one["attempts"], one["unknown_creates"]) for one in results} == {("succeeded", 1, 0)}
    assert night.ledger()["created"] == 20


@pytest.mark.parametrize("fault", ["unauthorized", "payment_required"])
async def test_an_account_that_is_refused_pauses_everything_until_resume(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any], fault: str
) -> None:
    night.ask(lambda desk: desk.pause("until the worker is up"))
    night.images(10)
    worker = worker_process("--burst", **FAST)
    await eventually(lambda: "account" in worker.log())
    night.simulator.control(**{fault: {"rate": 1.0}})
    assert night.ask(lambda desk: desk.resume())
    await eventually(lambda: "lifted when" in (night.status()["reason"] or ""))
    assert night.status()["state"] == "paused"
    assert "401" in night.status()["reason"] or "402" in night.status()["reason"]
    await asyncio.sleep(1)  # creates that were under way are refused too
    night.simulator.clear()
    await asyncio.sleep(1)
    assert night.ledger()["created"] == 0
    assert night.ask(lambda desk: desk.resume())
    assert worker.wait() == 0
    assert {result["attempts"] for result in night.check()} == {1}


async def test_pause_and_resume(night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]) -> None:
    night.ask(lambda desk: desk.pause("lunch"))
    night.images(5)
    worker = worker_process("--burst", **FAST)
    await eventually(lambda: "paused" in worker.log())
    assert night.status()["reason"] == "lunch"
    assert night.ledger()["created"] == 0
    assert night.ask(lambda desk: desk.resume())
    assert worker.wait() == 0
    night.check()


async def test_cancel_ends_what_runs_and_saves_what_succeeded(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    row = {"model": "simulator/image", "input": {"prompt": "quick", "width": 16, "height": 16, "predict_time": 0.1}}
    slow = {"model": "simulator/image", "input": {"prompt": "slow", "predict_time": 600}}
    night.enqueue(row)
    assert worker_process("--burst", **FAST).wait() == 0
    night.enqueue(row, *[slow] * 30)
    worker = worker_process("--burst", max_in_flight=10, **FAST)
    await eventually(lambda: night.ledger()["created"] == 11)
    night.ask(lambda desk: desk.cancel(night.name))
    assert worker.wait() == 0
    results = night.check()
    assert [result["status"] for result in results] == ["succeeded", *["canceled"] * 30]
    assert {result["error"]["kind"] for result in results[1:]} == {"canceled"}
    ledger = night.ledger()
    assert ledger["created"] == 11
    assert ledger["statuses"] == {"succeeded": 1, "canceled": 10}
    assert night.status()["state"] == "canceled"


def test_retry_tries_what_did_not_succeed(night: Any, worker_process: Callable[..., Any]) -> None:
    night.simulator.control(failed={"rate": 1.0, "text": "shapes cannot be broadcast together"})
    night.images(3)
    assert worker_process("--burst", **FAST).wait() == 0
    assert night.status()["failed"] == 3
    night.simulator.clear()
    assert night.retry()["enqueued"] == 3
    assert worker_process("--burst", **FAST).wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    status = night.status()
    assert (status["state"], status["succeeded"], status["failed"]) == ("finished", 3, 0)


def test_after_redis_was_wiped_nothing_is_paid_again(
    night: Any, worker_process: Callable[..., Any], redis_url: str
) -> None:
    from redis import Redis  # noqa: PLC0415

    night.images(12)
    assert worker_process("--burst", **FAST).wait() == 0
    with Redis.from_url(redis_url) as client:
        client.flushall()
    night.images(12)
    assert worker_process("--burst", **FAST).wait() == 0
    night.check()
    assert night.ledger()["created"] == 12
    assert night.status()["succeeded"] == 12


@pytest.mark.parametrize("burst", [True, False])
def test_a_worker_that_sees_no_folder_at_all_ends_with_an_error(
    night: Any, worker_process: Callable[..., Any], tmp_path: Any, *, burst: bool
) -> None:
    night.images(101)  # two shards
    if burst:
        (tmp_path / "elsewhere").mkdir()
    worker = worker_process(*["--burst"] * burst, output_dir=tmp_path / "elsewhere", **FAST)
    assert worker.wait() == 2
    assert str(tmp_path / "elsewhere" / "night" / "batch.json") in worker.log()
    assert "this worker sees none of the folders of the queued batches (night)" in worker.log()
    assert worker.log().count(" is skipped: ") == 1
    assert "Traceback" not in worker.log()
    assert night.ledger()["created"] == 0
    assert worker_process("--burst", **FAST).wait() == 0
    night.check()


async def test_a_batch_whose_folder_is_not_seen_is_left_alone_and_others_go_on(
    night: Any, worker_process: Callable[..., Any], tmp_path: Any, eventually: Callable[..., Any]
) -> None:
    night.images(101)
    here = tmp_path / "here"
    other = replace(night, name="day", config=night.config.model_copy(update={"output_dir": here}))
    other.images(101)
    worker = worker_process(output_dir=here, **FAST)
    await eventually(lambda: other.status()["state"] == "finished")
    status = night.status()
    assert f"does not see the batch's folder: it looked for {here / 'night' / 'batch.json'}" in status["reason"]
    assert (status["succeeded"], status["failed"]) == (0, 0)
    assert worker.process.poll() is None
    assert worker_process("--burst", **FAST).wait() == 0
    night.check()
    worker.terminate()
    assert worker.wait() == 0


async def test_a_models_limit_leaves_batches_their_shares(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=0.2, predict_max=0.3)
    night.images(500)
    limits = ModelLimits.parse("simulator/image=max 3")
    worker = worker_process(max_in_flight=50, model_limits=limits, **FAST)  # two job slots
    await eventually(lambda: night.ledger()["created"] > 6)
    urgent = replace(night, name="urgent")
    file = night.config.output_dir.parent / "urgent.jsonl"
    row = {"model": "simulator/image", "input": {"prompt": "dog", "width": 16, "height": 16}}
    file.write_text("".join(json.dumps(row) + "\n" for _ in range(20)))
    night.ask(lambda desk: desk.enqueue(Order(str(file), priority=10)))
    await eventually(lambda: urgent.status()["state"] == "finished", 120)
    first, last = 100, 320  # the shard at the head goes first, as without a limit
    assert first <= night.status()["succeeded"] <= last
    assert worker.log().count("wait for the limit of simulator/image") == 2, "once for each batch"
    worker.terminate()
    assert worker.wait() == 0
