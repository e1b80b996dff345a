"""All that is measured, by name; each has a full form and a quick one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.capacity import capacity
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


@dataclass(frozen=True, slots=True)
class Measurement:
    """One table of figures; `quick`: whether the quick run has it."""

    name: str
    title: str
    measure: Callable[[Choice, Telling], Rows]
    quick: bool = False


QUICK_SHARE = 0.25


def _race(workload: Workload, choice: Choice, tell: Telling) -> Rows:
    repetitions = choice.repetitions or (1 if choice.quick else workload.repetitions)
    shorter = workload.shorter(choice.share or (QUICK_SHARE if choice.quick else 1.0))
    return race(shorter, choice.only or workload.contenders, repetitions, tell)


def _told(rows: Rows, tell: Telling) -> Rows:
    for who, figures in rows.items():
        tell(who, figures)
    return rows


def _simple(measure: Callable[[Choice], Rows]) -> Callable[[Choice, Telling], Rows]:
    return lambda choice, tell: _told(measure(choice), tell)


QUICK = {"instant", "bytes", "at-once"}

MEASUREMENTS = {
    one.name: one
    for one in (
        Measurement("capacity", "The stand-in, in a second of its CPU", _simple(lambda _: capacity()), quick=True),
        *(Measurement(work.name, work.title, partial(_race, work), quick=work.name in QUICK) for work in WORKLOADS),
        Measurement(
            "limits",
            "600 creates and 3,000 reads a minute",
            _simple(lambda choice: limits(20.0 if choice.quick else 130.0 * (choice.share or 1.0))),
        ),
        Measurement(
            "trouble",
            "Every fault at 5 %",
            _simple(lambda choice: trouble(int(300 * (choice.share or 1.0)))),
        ),
        Measurement(
            "million",
            "1,000,000 short prompts",
            _simple(lambda choice: million(int(1_000_000 * (choice.share or (0.1 if choice.quick else 1.0))))),
            quick=True,
        ),
        Measurement("takeover", "A worker is killed", _simple(lambda choice: takeover(choice.repetitions or 3))),
        Measurement("starts", "Starts", _simple(lambda choice: starts(choice.repetitions or 5)), quick=True),
    )
}
