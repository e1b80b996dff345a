"""The part of the chaos that is quick enough for every run of the tests: several blows to one batch."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx

from tests.chaos import points
from tests.chaos.judgement import Judgement
from tests.chaos.points import Point
from tests.chaos.trapped_worker import found
from tests.chaos.trial import Trial

IN_TURN = (
    Point("jobs.state.ledger:Ledger.intend", "after", 20),
    Point("jobs.replicate_api.predictions:Replicate.create", "after", 20),
    replace(points.RENAME[1], most=20),
    Point("jobs.state.batches:Batches.settle", "before", 20),
    Point("jobs.state.batches:Batches.finish", "before", 1),
)


def test_workers_killed_at_one_point_after_the_other(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.enqueue(120)
    for point in IN_TURN:
        trial.wait_until_killed(trial.worker(point))
    trial.worker()
    trial.finish()
    judged(trial, "short: workers killed at one point after the other")


def test_workers_and_redis_killed_while_answers_are_lost(trial: Trial, judged: Callable[..., Any]) -> None:
    trial.simulator.control(lost_answer={"rate": 0.2, "how": "reset"}, list_lag={"rate": 0.5, "seconds": 0.5})
    trial.enqueue(120)
    workers = [trial.worker(creates_per_minute=1800.0), trial.worker(creates_per_minute=1800.0)]
    trial.wait_until_settled(10)
    trial.kill(workers[0])
    trial.wait_until_settled(30)
    trial.server.end(signal.SIGKILL)
    time.sleep(0.5)
    trial.server.start()
    trial.record_fault("restart of Redis")
    trial.finish()
    judged(trial, "short: a worker and Redis killed while answers are lost")


def test_every_point_is_in_the_product() -> None:
    tables = [points.SHARD, points.UPLOAD, points.CREATE, points.SAVE, points.LAST, points.DELETED, points.DELETED_LOST]
    tables += [points.AFTER_FAULTS, points.REPLACED, points.CANCELED, points.RESCUE]
    for point in [point for table in tables for point in table]:
        owner, name = found(point.target)
        assert callable(getattr(owner, name)), point.target


def test_the_judgement_can_fail(trial: Trial) -> None:
    trial.enqueue(10)
    trial.worker()
    trial.finish()
    assert Judgement(trial).judge() == []
    (trial.folder / "000003" / "output_0.png").unlink()
    with httpx.Client(base_url=trial.simulator.url, headers={"authorization": "Bearer x"}, trust_env=False) as api:
        dead, _ = (api.post("/v1/files", files={"content": b""}).json()["urls"]["get"] for _ in range(2))
        api.delete(dead.partition("?")[0].removesuffix("/download"))
        everything = "/v1/models/simulator/everything/predictions"
        made = api.post(everything, json={"input": {"prompt": "nobody asked", "image": dead}}).json()["id"]
    judgement = Judgement(trial)
    assert (judgement.lost, judgement.paid_twice) == (1, 1)
    assert {complaint.partition(":")[0] for complaint in judgement.judge()} >= {
        "000003/output_0.png",
        "paid twice",
        "uploads left",
        f"prediction {made} names an upload that is not there",
    }
