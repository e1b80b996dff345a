"""One run: a contender on a workload, against a server of its own, in a folder of its own."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, Outcome, Place
from benchmarks.processes import server
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of a run, or the medians of several. Seconds; memory in MB (10^6 bytes).

    `cpu_ms` is the client's process, after its start-up, for each prompt; `start_cpu` its start-up. `server_share` is
    how busy the server was: near 1 it, too, was a limit.
    """

    wall: float
    rate: float
    mb_s: float
    cpu_ms: float
    start_cpu: float
    start_wall: float
    peak_mb: float
    whole: float
    creates: float
    gets: float
    lists: float
    files: float
    status_reads: float
    delay_mean: float
    delay_worst: float
    server_share: float
    enqueue_wall: float
    enqueue_cpu: float


def run(workload: Workload, contender: str) -> Run:
    """Do it once."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, server(workload.server_flags()) as standing_in:
        folder = Path(name)
        place = Place(folder, folder / "prompts.jsonl", standing_in)
        with place.prompts.open("w") as file:
            file.writelines(prompts(workload.prompts))
        outcome = CONTENDERS[contender].run(place)
        whole = sum(path.stat().st_size == workload.file_bytes for path in place.outputs.rglob("output*.png"))
        return _figures(workload, outcome, standing_in.report(), whole)


def _figures(workload: Workload, outcome: Outcome, report: Mapping[str, Any], whole: int) -> Run:
    used, enqueued, wall = outcome.used, outcome.enqueued, outcome.finished - report["first"]
    counts = {kind: report["counts"].get(kind, 0) for kind in ("create", "get", "list", "file")}
    return Run(
        wall=wall,
        rate=workload.prompts / wall,
        mb_s=whole * workload.file_bytes / wall / 1e6,
        cpu_ms=(used.cpu - outcome.before) / workload.prompts * 1e3,
        start_cpu=outcome.before,
        start_wall=report["first"] - used.started,
        peak_mb=used.peak / 1e6,
        whole=whole / (workload.prompts * workload.files),
        creates=counts["create"],
        gets=counts["get"],
        lists=counts["list"],
        files=counts["file"],
        status_reads=(counts["get"] + counts["list"]) / workload.prompts,
        delay_mean=report["delay_mean"],
        delay_worst=report["delay_worst"],
        server_share=report["cpu"] / wall,
        enqueue_wall=enqueued.wall if enqueued else 0.0,
        enqueue_cpu=enqueued.cpu if enqueued else 0.0,
    )


def prompts(count: int) -> Iterable[str]:
    """So many lines of a prompts file, no two alike."""
    for number in range(count):
        prompt = f"A lighthouse on a cliff at dawn, storm clouds, oil on canvas, study number {number}"
        yield json.dumps({"model": "bench/model", "input": {"prompt": prompt, "seed": number}}) + "\n"


def interleaved(
    workload: Workload, contenders: Sequence[str], repetitions: int, tell: Callable[[str, Run], None]
) -> dict[str, Run]:
    """Let all take turns, so that what disturbs the machine disturbs all; medians by contender."""
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name in contenders:
            runs[name].append(run(workload, name))
            tell(name, runs[name][-1])
    return {name: median(done) for name, done in runs.items()}


def median(runs: Sequence[Run]) -> Run:
    """Of each figure by itself."""
    rows = [asdict(one) for one in runs]
    return Run(**{field.name: statistics.median(row[field.name] for row in rows) for field in fields(Run)})
