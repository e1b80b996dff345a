"""All that is measured, by name; each has a full form and a quick one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.capacity import capacity
from benchmarks.costs import costs
from benchmarks.figures import Rows, Telling
from benchmarks.limits import limits
from benchmarks.million import million
from benchmarks.races import race
from benchmarks.starts import starts
from benchmarks.takeover import takeover
from benchmarks.trouble import trouble
from benchmarks.workloads import WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line asks for; None: each measurement's own."""

    quick: bool = False
    only: tuple[str, ...] | None = None
    repetitions: int | None = None
    share: float | None = None

    def times(self, full: int, quick: int = 1) -> int:
        """How often something is repeated."""
        return self.repetitions or (quick if self.quick else full)

    def part(self, quick: float) -> float:
        """How much of the work is done."""
        return self.share or (quick if self.quick else 1.0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One table of figures; `quick`: whether the quick run has it."""

    name: str
    title: str
    measure: Callable[[Choice, Telling], Rows]
    quick: bool = False


def _race(workload: Workload, choice: Choice, tell: Telling) -> Rows:
    contenders = choice.only or (workload.quick if choice.quick else workload.contenders)
    return race(workload.shorter(choice.part(0.25)), contenders, choice.times(workload.repetitions), tell)


def _told(measure: Callable[[Choice], Rows]) -> Callable[[Choice, Telling], Rows]:
    def measured(choice: Choice, tell: Telling) -> Rows:
        rows = measure(choice)
        for who, figures in rows.items():
            tell(who, figures)
        return rows

    return measured


def _capacity(_: Choice) -> Rows:
    return capacity()


def _limits(choice: Choice) -> Rows:
    return limits(130.0 * choice.part(0.15))


def _trouble(choice: Choice) -> Rows:
    return trouble(int(200 * choice.part(0.2)))


def _million(choice: Choice) -> Rows:
    part = choice.part(0.1)
    return million(int(1_000_000 * part), max(30.0 * part, 5.0), int(20_000 * part))


def _takeover(choice: Choice) -> Rows:
    return takeover(choice.times(3))


def _starts(choice: Choice) -> Rows:
    return starts(choice.times(5, 3))


def _costs(_: Choice) -> Rows:
    return {cost.what: {"wall_ms": cost.wall, "cpu_ms": cost.cpu} for cost in asyncio.run(costs())}


MEASUREMENTS = {
    one.name: one
    for one in (
        Measurement("capacity", "The stand-in, in a second of its CPU", _told(_capacity), quick=True),
        *(Measurement(work.name, work.title, partial(_race, work), quick=bool(work.quick)) for work in WORKLOADS),
        Measurement("limits", "600 creates and 3,000 reads a minute", _told(_limits)),
        Measurement("trouble", "Every fault at 5 %", _told(_trouble)),
        Measurement("million", "1,000,000 short prompts", _told(_million), quick=True),
        Measurement("takeover", "A worker is killed", _told(_takeover)),
        Measurement("starts", "Starts", _told(_starts), quick=True),
        Measurement("costs", "What durability costs a prediction", _told(_costs)),
    )
}
