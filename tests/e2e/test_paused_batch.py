"""One batch is paused: it holds up no other, loses nothing, and goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 1.0}


async def test_a_paused_batch_lets_others_pass_and_loses_nothing_when_its_worker_dies(
    night: Any, worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    night.simulator.settings(predict_min=2.0, predict_max=3.0)
    night.images(250)
    few = {"max_in_flight": 2, **FAST}  # and so two job slots, fewer than the paused batch has shards
    killed = worker_process(**few)
    await eventually(lambda: night.ledger()["created"] >= 2)
    assert night.ask(lambda desk: desk.pause_batch("night", "lunch")) == "night: paused: lunch"
    await eventually(lambda: "night is paused" in killed.log())
    killed.kill()
    created = night.ledger()["created"]
    assert created < 100

    noon = replace(night, name="noon")
    noon.images(5)
    worker = worker_process("--burst", **few)
    await eventually(lambda: noon.status()["state"] == "finished")
    await eventually(lambda: night.status()["in_flight"] == 0)
    status = night.status()
    assert (status["state"], status["reason"], status["succeeded"]) == ("paused", "lunch", created)
    assert night.ledger()["created"] == created + 5
    assert "python -m jobs resume --batch night" in worker.log()

    night.simulator.settings(predict_min=0.0, predict_max=0.1)
    worker.terminate()
    assert worker.wait() == 0
    last = worker_process("--burst", **FAST)
    await eventually(lambda: "night is paused" in last.log())
    assert night.ask(lambda desk: desk.resume_batch("night"))
    assert last.wait() == 0
    assert {result["status"] for result in night.check()} == {"succeeded"}
    assert night.ledger()["created"] == 255
    assert "Traceback" not in killed.log() + worker.log() + last.log()
