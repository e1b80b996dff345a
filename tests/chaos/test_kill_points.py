"""SIGKILL at every await of a prompt's path, by name: two workers are killed there, a third finishes the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import points
from tests.chaos.points import Point
from tests.chaos.trial import Trial

pytestmark = pytest.mark.chaos
IN_TURN = [*points.SHARD, *points.UPLOAD, *points.CREATE, *points.SAVE, *points.SEGMENT, *points.LAST, *points.DELETED]
PATH = [*IN_TURN, *points.AFTER_FAULTS]


@pytest.mark.parametrize("point", PATH, ids=lambda point: point.name)
def test_killed_at(trial: Trial, judged: Callable[..., Any], point: Point) -> None:
    trial.free = point.faults == points.REFUSED
    trial.simulator.control(**point.faults)
    trial.enqueue()
    for _ in range(point.times):
        trial.wait_until_killed(trial.worker(point))
    trial.worker()
    trial.finish()
    assert not judged(trial, f"a: killed {point.name}").unclaimed


@pytest.mark.parametrize("point", points.REPLACED, ids=lambda point: point.name)
def test_killed_while_replacing_a_create_that_nobody_finds(
    trial: Trial, judged: Callable[..., Any], point: Point
) -> None:
    trial.enqueue()
    trial.wait_until_killed(trial.worker(Point("jobs.state.ledger:Ledger.intend", "after")))
    trial.wait_until_killed(trial.worker(point))
    trial.worker()
    trial.finish()
    judgement = judged(trial, f"a: killed {point.name}")
    assert judgement.unknown > 0
    assert not judgement.unclaimed


@pytest.mark.parametrize("point", points.DELETED_LOST, ids=lambda point: point.name)
def test_killed_while_deleting_uploads_that_nobody_recorded(
    trial: Trial, judged: Callable[..., Any], point: Point
) -> None:
    trial.enqueue()
    trial.wait_until_killed(trial.worker(points.UPLOADED))
    trial.wait_until_killed(trial.worker(point))
    trial.worker()
    trial.finish()
    judged(trial, f"a: killed {point.name}")


@pytest.mark.parametrize("point", points.CANCELED, ids=lambda point: point.name)
def test_killed_while_canceling(trial: Trial, judged: Callable[..., Any], point: Point) -> None:
    trial.free = True
    trial.simulator.settings(predict_min=20.0, predict_max=40.0)
    trial.enqueue()
    first = trial.worker(point)
    trial.wait_until_created(100)
    assert trial.cli("cancel", trial.batch).code == 0
    trial.wait_until_killed(first)
    trial.wait_until_killed(trial.worker(point))
    trial.worker()
    trial.finish()
    judged(trial, f"a: killed {point.name}")


@pytest.mark.parametrize("point", [None, *points.RESCUE], ids=lambda point: point.name if point else "nowhere")
def test_killed_while_the_other_worker_has_no_slot_left(
    trial: Trial, judged: Callable[..., Any], point: Point | None
) -> None:
    """Each has two job slots for four shards: the second looks after what the first left running, or falls over it."""
    trial.simulator.settings(predict_min=5.0, predict_max=8.0)
    trial.enqueue(320)
    first = trial.worker(max_in_flight=50)
    trial.wait_until(lambda: trial.shards_of(first) == 2)
    second = trial.worker(point, max_in_flight=50)
    trial.wait_until(lambda: trial.shards_of(second) == 2)
    trial.wait_until_created(90)
    trial.kill(first)
    trial.wait_until(lambda: "nobody has a slot for it" in second.log() or second.process.poll() is not None)
    if point:
        trial.wait_until_killed(second)
        trial.worker()
    trial.finish()
    judged(trial, f"a: no slot left, killed {point.name if point else 'nowhere'}")
