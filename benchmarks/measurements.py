"""All measurements by name; each has a full and a quick form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.cases.capacity import capacity
from benchmarks.cases.comparison import compare
from benchmarks.cases.dashboard import dashboard
from benchmarks.cases.durability import costs
from benchmarks.cases.faults import inject_faults
from benchmarks.cases.limits import limits
from benchmarks.cases.million import million
from benchmarks.cases.startup import startup
from benchmarks.cases.takeover import takeover
from benchmarks.cases.waiting import waiting
from benchmarks.results import Reporter, Rows
from benchmarks.workloads import WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line asks for; None: each measurement's own."""

    quick: bool = False
    only: tuple[str, ...] | None = None
    repetitions: int | None = None
    share: float | None = None

    def times(self, full: int, quick: int = 1) -> int:
        """The number of repetitions."""
        return self.repetitions or (quick if self.quick else full)

    def part(self, quick: float) -> float:
        """The share of the work that is done."""
        return self.share or (quick if self.quick else 1.0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One table of figures; `quick`: whether the quick run has it."""

    name: str
    title: str
    measure: Callable[[Choice, Reporter], Rows]
    quick: bool = False


def _compare(workload: Workload, choice: Choice, report: Reporter) -> Rows:
    candidates = choice.only or (workload.quick if choice.quick else workload.candidates)
    return compare(workload.shorter(choice.part(0.25)), candidates, choice.times(workload.repetitions), report)


def _reporting(measure: Callable[[Choice], Rows]) -> Callable[[Choice, Reporter], Rows]:
    def measured(choice: Choice, report: Reporter) -> Rows:
        rows = measure(choice)
        for who, figures in rows.items():
            report(who, figures)
        return rows

    return measured


def _capacity(_: Choice) -> Rows:
    return capacity()


def _limits(choice: Choice) -> Rows:
    return limits(130.0 * choice.part(0.15))


def _faults(choice: Choice) -> Rows:
    return inject_faults(int(200 * choice.part(0.2)))


def _million(choice: Choice) -> Rows:
    part = choice.part(0.1)
    return million(int(1_000_000 * part), max(30.0 * part, 5.0), int(20_000 * part))


def _takeover(choice: Choice) -> Rows:
    return takeover(choice.times(3))


def _startup(choice: Choice) -> Rows:
    return startup(choice.times(5, 3))


def _waiting(_: Choice) -> Rows:
    return waiting()


def _dashboard(choice: Choice) -> Rows:
    part = choice.part(0.1)
    return dashboard(int(5_000 * part), int(50_000 * part))


def _durability(_: Choice) -> Rows:
    return {cost.what: {"wall_ms": cost.wall, "cpu_ms": cost.cpu} for cost in asyncio.run(costs())}


MEASUREMENTS = {
    one.name: one
    for one in (
        Measurement("capacity", "The stand-in, in a second of its CPU", _reporting(_capacity), quick=True),
        *(Measurement(work.name, work.title, partial(_compare, work), quick=bool(work.quick)) for work in WORKLOADS),
        Measurement("limits", "600 creates and 3,000 reads a minute", _reporting(_limits)),
        Measurement("faults", "Every fault at 5 %", _reporting(_faults)),
        Measurement("million", "1,000,000 short prompts", _reporting(_million), quick=True),
        Measurement("takeover", "A worker is killed", _reporting(_takeover)),
        Measurement("startup", "Start-up", _reporting(_startup), quick=True),
        Measurement("waiting", "CPU of a worker that waits", _reporting(_waiting)),
        Measurement("dashboard", "The dashboard", _reporting(_dashboard)),
        Measurement("durability", "What durability costs a prediction", _reporting(_durability)),
    )
}
