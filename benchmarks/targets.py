"""Targets and what was reached: ratios within one run, and figures of ours without a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.results import Results

Reached = Callable[[Results], float]
"""Raises KeyError if it was not measured."""


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table; with `most`, less is better. `form` formats its figures; `peer`: it compares with a peer."""

    what: str
    reached: Reached
    least: float
    aim: float | None = None
    form: str = "{:.2f}"
    most: bool = False
    peer: bool = False

    def verdict(self, reached: float) -> str:
        """Whether it is met, or by how much it is missed."""
        if self._reaches(reached, self.least):
            return "met, aim too" if self.aim is not None and self._reaches(reached, self.aim) else "met"
        by = f"by {abs(reached - self.least) / self.least:.0%}" if self.least else f"by {reached:g}"
        return f"missed {by}"

    def _reaches(self, reached: float, bound: float) -> bool:
        return reached <= bound if self.most else reached >= bound

    def bound(self, value: float | None) -> str:
        """The target value with its sign."""
        return "" if value is None else f"{'≤' if self.most else '≥'} {self.form.format(value)}"


def lines(results: Results, *, peer: bool | None = None, missed: bool = False) -> Iterator[list[str]]:
    """The table's rows: what, at least, aim, reached, verdict. What was not measured is left out.

    `peer` selects those that compare with a peer, or those that do not; `missed` those that were not met.
    """
    for target in TARGETS:
        try:
            reached = target.reached(results)
        except KeyError:
            continue
        verdict = target.verdict(reached)
        if peer in (None, target.peer) and (not missed or verdict.startswith("missed")):
            shown = [target.bound(target.least), target.bound(target.aim), target.form.format(reached)]
            yield [target.what, *shown, verdict]


HEADINGS = ["what", "at least", "aim", "reached", ""]


def figure(measurement: str, row: str, name: str) -> Reached:
    """One figure."""
    return lambda results: results[measurement][row][name]


def seconds_for(prompts: int, measurement: str, row: str) -> Reached:
    """How long so many prompts take, by the rate of a case that may have had fewer."""
    return lambda results: prompts / results[measurement][row]["rate"]


def ratio(measurement: str, name: str, one: str, other: str) -> Reached:
    """One candidate's figure divided by another's."""
    return lambda results: results[measurement][one][name] / results[measurement][other][name]


def worst(measurement: str, name: str, choose: Callable[..., float]) -> Reached:
    """The least or the most of a figure in all rows that have it."""
    return lambda results: choose([row[name] for row in results[measurement].values() if name in row])


def _slowest_pace(results: Results) -> float:
    """The lower of share and pace: a first burst must not hide a slow pace or a late start."""
    return min(min(row["share"], row["pace"]) for row in results["limits"].values())


TIMES, SHARE, COUNT = "{:.2f} times", "{:.1%}", "{:,.0f}"


def _against_official(
    who: str, named: str, rate: tuple[float, float | None], cpu: tuple[float, float | None]
) -> Iterator[Target]:
    rates, costs = ratio("instant", "rate", who, "official"), ratio("instant", "cpu_ms", who, "official")
    yield Target(f"predictions/s against the official client, {named}", rates, *rate, form=TIMES, peer=True)
    yield Target(f"CPU per prediction against it, {named}", costs, *cpu, most=True, peer=True)


TARGETS = (
    Target("whole, checked files under 5 % faults", figure("faults", "ours", "whole"), 1, form=SHARE),
    Target("predictions paid unintentionally", figure("faults", "ours", "unintended"), 0, form=COUNT, most=True),
    Target("creates while prompts wait, of the account's limit, worst case", _slowest_pace, 0.97, 0.985, form=SHARE),
    Target("429 answers, most of any case", worst("limits", "throttled", max), 0, form=COUNT, most=True),
    Target("mean delay to notice, 600 at once, s", figure("at-once", "ours", "delay"), 0.5, most=True),
    Target("mean delay to notice, 60 s models, s", figure("minute", "ours", "delay"), 0.6, most=True),
    Target("mean delay to notice, 2,000 of 2 s at once, s", figure("two-seconds", "ours", "delay"), 0.5, most=True),
    Target(
        "a worker with 1,000 predictions of 60 s in flight, of a core",
        figure("waiting", "1,000 predictions of 60 s", "core"),
        0.03,
        form=SHARE,
        most=True,
    ),
    Target("a worker with nothing to do, of a core", figure("waiting", "nothing", "core"), 0.01, form=SHARE, most=True),
    Target("status reads each, 600 at once", figure("at-once", "ours", "status_reads"), 0.3, most=True),
    Target("status reads each, 60 s models at 10/s", figure("minute", "ours", "status_reads"), 1.5, most=True),
    Target(
        "a killed worker's prompts are in hand elsewhere after, s, worst",
        worst("takeover", "wall", max),
        20,
        form="{:.1f}",
        most=True,
    ),
    Target("start of a worker until its first create, s", figure("startup", "worker", "start"), 1.5, most=True),
    *(
        Target(f"CPU of `{command}`, s", figure("startup", command, "cpu"), 0.15, most=True)
        for command in ("--help", "status, nothing enqueued", "status, one batch", "completion")
    ),
    Target("start of the embedded server, s", figure("startup", "embedded server", "start"), 0.2, most=True),
    Target(
        "check against a schema, prompts/s",
        figure("million", "check against a schema", "rate"),
        60_000,
        100_000,
        form=COUNT,
    ),
    Target("check against a schema, peak MB", figure("million", "check against a schema", "peak_mb"), 150, most=True),
    Target("enqueue, prompts/s", figure("million", "enqueue", "rate"), 100_000, 200_000, form=COUNT),
    Target("enqueue, peak MB of the producer", figure("million", "enqueue", "peak_mb"), 300, form=COUNT, most=True),
    Target("enqueue, MB of Redis", figure("million", "enqueue", "redis_mb"), 100, form=COUNT, most=True),
    Target(
        "close a batch of 100,000, s", seconds_for(100_000, "million", "close a tenth"), 6, form="{:.1f}", most=True
    ),
    Target("close a batch of 1,000,000, s", seconds_for(1_000_000, "million", "close"), 60, form="{:.1f}", most=True),
    Target("close a batch, peak MB", figure("million", "close", "peak_mb"), 100, form=COUNT, most=True),
    Target("worker, peak MB, 1,000 in flight", figure("thousand", "ours", "peak_mb"), 150, form=COUNT, most=True),
    Target("worker, peak MB, all queued", figure("million", "worker", "peak_mb"), 150, form=COUNT, most=True),
    Target(
        "wall of 2,000 with a 2 s model, faster",
        ratio("two-seconds", "wall", "official", "ours"),
        5,
        form=TIMES,
        peer=True,
    ),
    *_against_official("ours", "ours at its default", (3, 4), (0.45, 1 / 3)),
    *_against_official("ours-100", "both 100 in flight", (3, 4), (0.45, 1 / 3)),
    *_against_official("ours-nofsync", "ours at its default, BATCH_FSYNC=false", (4, None), (1 / 3, None)),
    *_against_official("ours-100-nofsync", "both 100 in flight, BATCH_FSYNC=false", (4, None), (1 / 3, None)),
    Target("MB/s against the official client", ratio("bytes", "mb_s", "ours", "official"), 2.5, form=TIMES, peer=True),
    Target("MB/s against curl --parallel", ratio("bytes", "mb_s", "ours", "curl"), 0.6, 0.8, form=SHARE, peer=True),
)
