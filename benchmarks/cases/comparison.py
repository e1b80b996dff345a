"""Candidates on the same workload in turn, each run with a server and a folder of its own."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.candidates import CANDIDATES, Outcome, RunContext
from benchmarks.processes import start_server, temporary_folder
from benchmarks.results import Figures, Reporter, Rows
from benchmarks.workloads import Workload

BIG = 10**9
"""Bytes of outputs; more than that are removed right after the run."""


def compare(workload: Workload, candidates: Sequence[str], repetitions: int, report: Reporter) -> Rows:
    """Run all in turn, so that other load on the machine affects all alike; returns medians by candidate."""
    runs: dict[str, list[Figures]] = {name: [] for name in candidates}
    for _ in range(repetitions):
        for name in candidates:
            figures = run(workload, name)
            runs[name].append(figures)
            report(name, figures)
    return {name: medians(done) for name, done in runs.items()}


def run(workload: Workload, candidate: str) -> Figures:
    """Run one candidate once."""
    big = workload.prompts * workload.files * workload.file_bytes > BIG
    with temporary_folder(big=big) as folder, start_server(workload.server_flags()) as server:
        context = RunContext(folder, folder / "prompts.jsonl", server, workload)
        with context.prompts.open("w") as file:
            file.writelines(prompts(workload.prompts))
        outcome = CANDIDATES[candidate].run(context)
        whole = sum(path.stat().st_size == workload.file_bytes for path in context.outputs.rglob("output*.png"))
        return _figures(workload, outcome, server.report(), whole)


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
    """`count` different lines of a prompts file; `more` goes into each input."""
    for number in range(count):
        prompt = f"A lighthouse on a cliff at dawn, storm clouds, oil on canvas, study number {number}"
        yield json.dumps({"model": model, "input": {"prompt": prompt, "seed": number, **more}}) + "\n"


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}
