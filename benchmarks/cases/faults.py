"""All faults of the API and the file host at once: how many files are whole, and what was paid twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from typing import Any
from urllib.request import ProxyHandler, build_opener

from benchmarks.cases.comparison import prompts
from benchmarks.installation import Installation, install
from benchmarks.processes import temporary_folder
from benchmarks.results import Figures, Rows
from simulator.faults import FAULTS
from simulator.process import RunningSimulator, running

OPTIONS: dict[str, dict[str, Any]] = {
    "hang": {"seconds": 20},
    "unauthorized": {"kinds": ["create"]},
    "slow_body": {"seconds": 1.0},
}
"""For faults that would take minutes otherwise, or pause everything."""

FILE_BYTES = 20_000
TIMEOUT = 1_200.0
_opener = build_opener(ProxyHandler({}))


def inject_faults(count: int, rate: float = 0.05) -> Rows:
    """Run `count` prompts while each fault strikes at that rate, then check everything without faults."""
    more = {"BATCH_MAX_ATTEMPTS": "10"}  # some prompts would use up three by chance
    with (
        temporary_folder() as folder,
        running(limiter="off", seed=1) as simulator,
        install(folder, simulator.url, more) as ours,
    ):
        file = ours.folder / "prompts.jsonl"
        file.write_text("".join(prompts(count, "simulator/bytes", size=FILE_BYTES)))
        simulator.control(**{fault: {"rate": rate} | OPTIONS.get(fault, {}) for fault in FAULTS})
        ours.enqueue(file)
        worker = ours.worker()
        started = time.monotonic()
        try:
            _finish(ours)
        finally:
            used = worker.end()
        wall = time.monotonic() - started
        simulator.clear()
        figures = _evaluate(ours, simulator, count)
    return {"ours": {"wall": wall, "cpu_ms": used.cpu / count * 1e3, **figures}}


def _finish(ours: Installation) -> None:
    """Wait for the batch to finish; resume after each pause of the account, as its owner would."""
    deadline = time.monotonic() + TIMEOUT
    while (status := ours.status())["state"] != "finished":
        if time.monotonic() > deadline:
            raise RuntimeError(f"the batch does not end: {status}")
        if status["state"] == "paused":
            ours.command("resume")
        time.sleep(1)


def _evaluate(ours: Installation, simulator: RunningSimulator, count: int) -> Figures:
    ledger = simulator.ledger()
    creates = {create["id"]: create for create in ledger["creates"]}
    results = [json.loads(line) for line in ours.batch.results.read_text().splitlines()]
    return {
        "whole": sum(_is_whole(ours, result) for result in results) / count,
        "predictions": len(creates),
        "unintended": _count_unintended(results, creates),
        "faults": sum(ledger["faults"].values()),
    }


def _is_whole(ours: Installation, result: dict[str, Any]) -> bool:
    """Whether its file has the bytes that its record says and that the host serves."""
    for file in result["files"]:
        with _opener.open(file["url"]) as served:
            data = served.read()
        if (ours.batch.path / file["path"]).read_bytes() != data or hashlib.sha256(data).hexdigest() != file["sha256"]:
            return False
    return result["status"] == "succeeded" and len(result["files"]) == 1


def _count_unintended(results: list[dict[str, Any]], creates: dict[str, dict[str, Any]]) -> int:
    """Predictions that no result names and that are not unknown or canceled, and those that two results name."""
    named = Counter(prediction_id for result in results for prediction_id in result["prediction_ids"])
    strangers = sum(id_ not in named and not create["canceled_by_call"] for id_, create in creates.items())
    unknown = sum(int(result["unknown_creates"]) for result in results)
    return max(0, strangers - unknown) + named.total() - len(named)
