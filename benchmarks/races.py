"""Contenders on the same work, in turn: each run against a server of its own, in a folder of its own."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contenders import CONTENDERS, Outcome, Place
from benchmarks.figures import Figures, Rows, Telling
from benchmarks.ground import fresh
from benchmarks.processes import server
from benchmarks.workloads import Workload

BIG = 10**9
"""Bytes of outputs in all: more are not kept until the end."""


def race(workload: Workload, contenders: Sequence[str], repetitions: int, tell: Telling) -> Rows:
    """Let all take turns, so that what disturbs the machine disturbs all; medians by contender."""
    runs: dict[str, list[Figures]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name in contenders:
            figures = run(workload, name)
            runs[name].append(figures)
            tell(name, figures)
    return {name: medians(done) for name, done in runs.items()}


def run(workload: Workload, contender: str) -> Figures:
    """Do it once."""
    big = workload.prompts * workload.files * workload.file_bytes > BIG
    with fresh(big=big) as folder, server(workload.server_flags()) as standing_in:
        place = Place(folder, folder / "prompts.jsonl", standing_in, workload)
        with place.prompts.open("w") as file:
            file.writelines(prompts(workload.prompts))
        outcome = CONTENDERS[contender].run(place)
        whole = sum(path.stat().st_size == workload.file_bytes for path in place.outputs.rglob("output*.png"))
        return _figures(workload, outcome, standing_in.report(), whole)


def _figures(workload: Workload, outcome: Outcome, report: Mapping[str, Any], whole: int) -> Figures:
    used, enqueued = outcome.used, outcome.enqueued
    first = report["first"] or used.started
    wall = outcome.finished - first
    counts = {kind: report["counts"].get(kind, 0) for kind in ("create", "get", "list", "file")}
    return {
        "prompts": workload.prompts,
        "wall": wall,
        "rate": workload.prompts / wall,
        "mb_s": whole * workload.file_bytes / wall / 1e6,
        "cpu_ms": used.cpu / workload.prompts * 1e3,
        "work_ms": (used.cpu - outcome.before) / workload.prompts * 1e3,
        "start_cpu": outcome.before,
        "start": first - used.started,
        "peak_mb": used.peak / 1e6,
        "whole": whole / (workload.prompts * workload.files),
        **counts,
        "status_reads": (counts["get"] + counts["list"]) / workload.prompts,
        "delay": report["delay_mean"] or 0.0,
        "worst_delay": report["delay_worst"] or 0.0,
        "server": report["cpu"] / wall,
        **({"enqueue_ms": enqueued.cpu / workload.prompts * 1e3} if enqueued else {}),
    }


def prompts(count: int, model: str = "bench/model", **more: Any) -> Iterable[str]:
    """So many lines of a prompts file, no two alike; `more` goes into each input."""
    for number in range(count):
        prompt = f"A lighthouse on a cliff at dawn, storm clouds, oil on canvas, study number {number}"
        yield json.dumps({"model": model, "input": {"prompt": prompt, "seed": number, **more}}) + "\n"


def medians(runs: Sequence[Figures]) -> Figures:
    """Of each figure by itself."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}
