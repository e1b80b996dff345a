"""schedules.toml: its schedules, and everything that is wrong with the others, line by line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal

from jobs.budget import MOST_PREDICTIONS
from jobs.errors import Problem, ScheduleError
from jobs.expansion.expansion import Expansion
from jobs.expansion.value_list import MOST
from jobs.names import model_problem, name_problem
from jobs.prices.money import micro_dollars
from jobs.prompts_file.expansion_options import ExpansionOptions, OptionError
from jobs.schedules import cron as fire_times
from jobs.text import printable
from jobs.toml_lines import Rule, find_lines, line_of, syntax_problem, value_problem

MAX_NAME = 47
"""A batch's name has 64 characters, of which `-2026-11-21T0200b` takes 17."""

_REQUIRED = ("name", "cron", "file")
_EXPANSION = tuple(one.name for one in fields(ExpansionOptions))
_OPTION = re.compile(r"--([a-z-]+)")
_TOP = -1
_TABLE = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One `[[schedule]]`; `timezone` None is the machine's own; `max_cost` and `confirm_above` are in micro-dollars."""

    name: str
    cron: str
    file: Path
    model: str | None = None
    timezone: str | None = None
    overlap: Literal["skip", "allow"] = "skip"
    catch_up: bool = True
    max_predictions: int | None = None
    max_cost: int | None = None
    max_in_flight: int | None = None
    confirm_above: int | None = None
    expansion: Expansion | None = None
    model_check: bool = True
    allow_unknown: bool = False
    copy_inputs: bool = False
    keep_uploads: bool = False

    @property
    def zone(self) -> tzinfo:
        """The time zone that `cron` is meant in."""
        return fire_times.zone(self.timezone)

    @property
    def times(self) -> str:
        """When it fires, in one text: a schedule with other times is a new one."""
        return f"{self.cron} {self.zone}"

    @property
    def problem(self) -> str | None:
        """Why it could not fire now: it is said before the night, and the file may still come."""
        try:
            there = self.file.is_file()
        except OSError:
            there = False
        return None if there else f"there is no file {str(self.file)!r}"


@dataclass(frozen=True, slots=True)
class WrongSchedule:
    """A `[[schedule]]` that cannot fire, as far as it can be read, and what is wrong with it."""

    name: str
    cron: str
    timezone: str
    file: str
    problems: tuple[Problem, ...]


def load(path: Path) -> tuple[Schedule | WrongSchedule, ...]:
    """Read the schedules, none when there is no file; prompts files are relative to the file's folder.

    Raises ScheduleError when something is wrong that concerns the whole file.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        document = tomllib.loads(text)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ScheduleError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _refusal(path, [Problem(line, "not UTF-8")]) from None
    except (ValueError, RecursionError) as error:
        raise _refusal(path, [syntax_problem(error, text)]) from None
    faults, tables = list(_faults(document)), document.get("schedule", [])
    problems = _located(faults, text) if faults else []
    if any(fault.table == _TOP for fault in faults):
        raise _refusal(path, [problem for _, problem in problems])
    wrong = [tuple(problem for table, problem in problems if table == number) for number in range(len(tables))]
    return tuple(
        _wrong_schedule(number, table, wrong[number]) if wrong[number] else _schedule(table, path.parent)
        for number, table in enumerate(tables)
    )


def describe(path: Path, found: Iterable[Schedule | WrongSchedule]) -> str:
    """All that is wrong with single schedules, as a ScheduleError would say it; empty when nothing is."""
    problems = [problem for one in found if isinstance(one, WrongSchedule) for problem in one.problems]
    return str(_refusal(path, problems)) if problems else ""


def _wrong_schedule(number: int, table: dict[str, Any], problems: tuple[Problem, ...]) -> WrongSchedule:
    name, cron, timezone, file = (_text(table.get(key)) for key in ("name", "cron", "timezone", "file"))
    return WrongSchedule(name or f"schedule {number + 1}", cron, timezone, file, problems)


def _text(value: Any) -> str:
    return printable(value) if isinstance(value, str) else ""


def _schedule(table: dict[str, Any], home: Path) -> Schedule:
    read: dict[str, Any] = {"file": home / table["file"], "expansion": _expansion(table)}
    read |= {key: micro_dollars(str(table[key])) for key in ("max_cost", "confirm_above") if key in table}
    return Schedule(**{key: value for key, value in table.items() if key not in _EXPANSION} | read)


def _expansion(table: dict[str, Any]) -> Expansion | None:
    """What makes many rows of one; OptionError."""
    return ExpansionOptions(**{key: table[key] for key in _EXPANSION if key in table}).build()


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with a key of the n-th schedule; _TOP and _TABLE stand for the file and the whole table."""

    table: int
    key: str
    message: str


def _faults(document: dict[str, Any]) -> Iterator[_Fault]:
    for key in document.keys() - {"schedule"}:
        yield _Fault(_TOP, key, f"unknown key {key!r}: only [[schedule]] may be here")
    tables = document.get("schedule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        yield _Fault(_TOP, "schedule", "a schedule begins with [[schedule]], in two pairs of brackets")
        return
    names: set[str] = set()
    for number, table in enumerate(tables):
        yield from _table_faults(number, table)
        if isinstance(name := table.get("name"), str):
            if name.lower() in names:
                yield _Fault(number, "name", f"another schedule is named {name!r} already")
            names.add(name.lower())


def _table_faults(number: int, table: dict[str, Any]) -> Iterator[_Fault]:
    for key in _REQUIRED:
        if key not in table:
            yield _Fault(number, _TABLE, f"the schedule has no {key}")
    problems = {key: message for key, value in table.items() if (message := _problem(key, value))}
    for key, message in problems.items():
        yield _Fault(number, key, message)
    if problems.keys().isdisjoint(_EXPANSION):
        try:
            _expansion(table)
        except OptionError as error:
            message = _OPTION.sub(lambda found: found[1].replace("-", "_"), str(error))
            yield _Fault(number, error.option, f"{error.option}: {message}")


def _problem(key: str, value: Any) -> str | None:
    if key not in _CHECKS:
        return f"unknown key {key!r}; there are {', '.join(_CHECKS)}"
    return value_problem(key, value, _CHECKS[key], _EXPECTED)


def _check_name(name: str) -> None:
    if problem := name_problem(name, MAX_NAME):
        raise ValueError(problem)


def _check_model(model: str) -> None:
    if problem := model_problem(model):
        raise ValueError(problem)


def _check_file(file: str) -> None:
    if not file or "\0" in file:
        raise ValueError(f"{file!r} is no path of a file")


def _check_count(number: int) -> None:
    if not 1 <= number <= MOST_PREDICTIONS:
        raise ValueError(f"{number} is not between 1 and {MOST_PREDICTIONS}")


def _check_max_cost(amount: float) -> None:
    if not micro_dollars(str(amount)):
        raise ValueError("it must be above 0 dollars")


def _check_threshold(amount: float) -> None:
    micro_dollars(str(amount))


def _check_rows(number: int) -> None:
    if not 1 <= number <= MOST:
        raise ValueError(f"{number} is not between 1 and {MOST}")


def _check_texts(texts: list[Any]) -> None:
    if not all(isinstance(text, str) for text in texts):
        raise ValueError('each entry is text in quotes, as in ["seed=1..4"]')


def _take_any(_value: Any) -> None:
    """Every value of the type is right."""


def _check_overlap(overlap: str) -> None:
    if overlap not in ("skip", "allow"):
        raise ValueError(f'{overlap!r} is neither "skip" nor "allow"')


_CHECKS: dict[str, Rule] = {
    "name": (str, _check_name),
    "cron": (str, fire_times.check_cron),
    "file": (str, _check_file),
    "model": (str, _check_model),
    "timezone": (str, fire_times.zone),
    "overlap": (str, _check_overlap),
    "catch_up": (bool, _take_any),
    "max_predictions": (int, _check_count),
    "max_cost": (float, _check_max_cost),
    "max_in_flight": (int, _check_count),
    "confirm_above": (float, _check_threshold),
    "model_check": (bool, _take_any),
    "allow_unknown": (bool, _take_any),
    "copy_inputs": (bool, _take_any),
    "keep_uploads": (bool, _take_any),
    "each": (list, _check_texts),
    "repeat": (int, _check_rows),
    "seed_from": (int, _take_any),
    "template": (str, _take_any),
    "dynamic_prompts": (bool, _take_any),
    "sample": (int, _check_rows),
    "sample_seed": (int, _take_any),
    "map": (list, _check_texts),
}
_EXPECTED = {
    str: "text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number of dollars",
    list: "a list of texts in quotes",
}


def _refusal(path: Path, problems: list[Problem]) -> ScheduleError:
    count = f"{len(problems)} error{'s' if len(problems) > 1 else ''}"
    return ScheduleError("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in problems)]))


def _located(faults: list[_Fault], text: str) -> list[tuple[int, Problem]]:
    lines = find_lines(text, "schedule")
    found = []
    for fault in faults:
        path = (fault.key,) if fault.table == _TOP else ("schedule", fault.table, fault.key)
        found.append((fault.table, Problem(line_of(lines, path), fault.message)))
    return sorted(found, key=lambda pair: pair[1].line)
