"""notify.toml: its receivers, and everything that is wrong with the others, line by line."""

from __future__ import annotations

import base64
import binascii
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from jobs.config import unquoted
from jobs.errors import NotifyError, Problem
from jobs.names import name_problem
from jobs.notify.event import EVENTS
from jobs.notify.receiver import Kind, Receiver
from jobs.toml_lines import Rule, find_lines, line_of, syntax_problem, value_problem

MAX_NAME = 40
ON_FINISH = "on_finish"
"""The key above all receivers that names a command, and the name of the receiver that it stands for."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - it is no secret
LEAST_SECRET = 16
"""Bytes; Standard Webhooks asks for 24 to 64, and some services give fewer."""

LONGEST = {"webhook": 120.0, "command": 3600.0, "apprise": 300.0}
USUAL = {"webhook": 20.0, "command": 60.0, "apprise": 60.0}
"""Seconds that a try may take."""

MAKE_SECRET = f"as `echo {SECRET_PREFIX}$(openssl rand -base64 32)` makes it"

_TARGETS: dict[str, Kind] = {
    "webhook": "webhook",
    "webhook_env": "webhook",
    "command": "command",
    "apprise": "apprise",
    "apprise_env": "apprise",
}
_TOP = -1
_TABLE = ""
MISSING_EXTRA = "e-mail and chat need the library apprise: pip install 'replicate-batch[notify]'"


@dataclass(frozen=True, slots=True)
class ReceiversFile:
    """The receivers that can be reached, and what is wrong with the rest of the file."""

    path: Path
    receivers: tuple[Receiver, ...] = ()
    problems: tuple[Problem, ...] = ()
    variables: frozenset[str] = frozenset()
    """Variables of the environment that hold its secrets."""

    is_whole: bool = True
    """Whether the problems, if any, concern single receivers only."""

    @property
    def error(self) -> str:
        """All that is wrong, "" when nothing is."""
        count = f"{len(self.problems)} error{'s' if len(self.problems) > 1 else ''}"
        lines = [f"{self.path}: {count}", *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines) if self.problems else ""

    def check(self) -> None:
        """NotifyError when something is wrong."""
        if self.problems:
            raise NotifyError(self.error)


def load(path: Path, environment: Mapping[str, str | None]) -> ReceiversFile:
    """Read the receivers, none when there is no file; their secrets are in the environment."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        document = tomllib.loads(text)
    except FileNotFoundError:
        return ReceiversFile(path)
    except OSError as error:
        return ReceiversFile(path, (), (Problem(0, f"it cannot be read: {error.strerror or error}"),), is_whole=False)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return ReceiversFile(path, (), (Problem(line, "not UTF-8"),), is_whole=False)
    except (ValueError, RecursionError) as error:
        return ReceiversFile(path, (), (syntax_problem(error, text),), is_whole=False)
    return _read(path, text, document, environment)


def _read(path: Path, text: str, document: dict[str, Any], environment: Mapping[str, str | None]) -> ReceiversFile:
    faults = list(_top_faults(document))
    tables = [] if faults else document.get("receiver", [])
    receivers = []
    if ON_FINISH in document and not faults:
        on_finish = {"name": ON_FINISH, "command": document[ON_FINISH], "events": ["finished"]}
        receivers.append(_receiver(on_finish, environment))
    names = {receiver.name for receiver in receivers}
    for number, table in enumerate(tables):
        wrong = [*_table_faults(number, table, environment), *_name_faults(number, table, names)]
        faults += wrong
        if not wrong:
            receivers.append(_receiver(table, environment))
    lines = find_lines(text, "receiver") if faults else {}
    problems = sorted((fault.problem(lines) for fault in faults), key=lambda problem: problem.line)
    named = {str(value) for table in tables for key, value in table.items() if key.endswith("_env")}
    is_whole = all(fault.table != _TOP for fault in faults)
    return ReceiversFile(path, tuple(receivers), tuple(problems), frozenset(named), is_whole=is_whole)


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with a key of the n-th receiver; _TOP and _TABLE stand for the file and the whole table."""

    table: int
    key: str
    message: str

    def problem(self, lines: dict[tuple[str | int, ...], int]) -> Problem:
        path = (self.key,) if self.table == _TOP else ("receiver", self.table, self.key)
        return Problem(line_of(lines, path), self.message)


def _top_faults(document: dict[str, Any]) -> Iterator[_Fault]:
    for key in document.keys() - {"receiver", ON_FINISH}:
        hint = "did you mean [[receiver]]?" if key == "receivers" else f"only {ON_FINISH} and [[receiver]] may be here"
        yield _Fault(_TOP, key, f"unknown key {key!r}: {hint}")
    tables = document.get("receiver", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        yield _Fault(_TOP, "receiver", "a receiver begins with [[receiver]], in two pairs of brackets")
    if ON_FINISH in document and (problem := _problem("command", document[ON_FINISH])):
        yield _Fault(_TOP, ON_FINISH, problem.replace("command", ON_FINISH, 1))


def _name_faults(number: int, table: dict[str, Any], names: set[str]) -> Iterator[_Fault]:
    """Whether another receiver has the name; `names` gets it."""
    name = table.get("name")
    if name is None:
        yield _Fault(number, _TABLE, "the receiver has no name")
    elif isinstance(name, str):
        if name in names:
            yield _Fault(number, "name", f"another receiver is named {name!r} already")
        names.add(name)


def _table_faults(number: int, table: dict[str, Any], environment: Mapping[str, str | None]) -> Iterator[_Fault]:
    for key, value in table.items():
        if message := _problem(key, value) or _variable_problem(key, value, environment):
            yield _Fault(number, key, message)
    targets = [key for key in table if key in _TARGETS]
    if len(targets) != 1:
        yield _Fault(number, _TABLE, f"the receiver needs one of {', '.join(_TARGETS)}, and no two of them")
        return
    kind = _TARGETS[targets[0]]
    for key, owner in (("secret_env", "webhook"), ("shell", "command")):
        if key in table and kind != owner:
            yield _Fault(number, key, f"{key} is for a {owner} only")
    if type(table.get("timeout")) in (int, float) and table["timeout"] > LONGEST[kind]:
        yield _Fault(number, "timeout", f"timeout: {table['timeout']:g} is more than {LONGEST[kind]:g} seconds")
    if kind == "apprise" and find_spec("apprise") is None:
        yield _Fault(number, targets[0], MISSING_EXTRA)


def _receiver(table: dict[str, Any], environment: Mapping[str, str | None]) -> Receiver:
    key = next(key for key in table if key in _TARGETS)
    kind, target = _TARGETS[key], table[key]
    if key.endswith("_env"):
        target = unquoted(environment.get(target) or "")
    secret = secret_bytes(unquoted(environment.get(table["secret_env"]) or "")) if "secret_env" in table else b""
    return Receiver(
        table["name"],
        kind,
        target.strip(),
        secret,
        events=tuple(table.get("events", EVENTS)),
        batches=table.get("batches", "*"),
        timeout=float(table.get("timeout", USUAL[kind])),
        shell=table.get("shell", False),
    )


def secret_bytes(secret: str) -> bytes:
    """The key that `whsec_…` stands for; ValueError, which does not repeat it."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"it is not {SECRET_PREFIX} followed by base64, {MAKE_SECRET}") from None
    if len(key) < LEAST_SECRET:
        raise ValueError(f"it stands for {len(key)} bytes, and {LEAST_SECRET} are needed, {MAKE_SECRET}")
    return key


def _variable_problem(key: str, name: Any, environment: Mapping[str, str | None]) -> str | None:
    """What is wrong with the variable that such a key names; its value is never repeated."""
    if not key.endswith("_env"):
        return None
    value = environment.get(name)
    if not value or not value.strip():
        return f"{key}: the environment has no such variable: set it there or in .env"
    try:
        if key == "secret_env":
            secret_bytes(unquoted(value))
        elif key == "webhook_env":
            _check_url(unquoted(value).strip(), shown="what it holds")
    except ValueError as error:
        return f"{key}: {error}"
    return None


def _problem(key: str, value: Any) -> str | None:
    if key not in _CHECKS:
        close = get_close_matches(key, _CHECKS, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_CHECKS)}"
        return f"unknown key {key!r}; {hint}"
    return value_problem(key, value, _CHECKS[key], _EXPECTED)


def _check_name(name: str) -> None:
    if problem := name_problem(name, MAX_NAME):
        raise ValueError(problem)


def _check_url(url: str, shown: str = "") -> None:
    try:
        parts = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"{shown or 'the address'} is not an http or https URL")


def _check_command(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{error}, as a shell would read it") from None
    if not words or "\0" in command:
        raise ValueError("it names no program")


def _check_text(text: str) -> None:
    if not text.strip():
        raise ValueError("it is empty")


def _check_events(events: list[Any]) -> None:
    for name in events:
        if name not in EVENTS:
            close = get_close_matches(str(name), EVENTS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(EVENTS)}"
            raise ValueError(f"there is no event {name!r}; {hint}")
    if not events:
        raise ValueError("the list is empty: leave it out for all events")


def _check_seconds(seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"{seconds} is not above 0 seconds")


def _take_any(_value: Any) -> None:
    """Every value of the type is right."""


_CHECKS: dict[str, Rule] = {
    "name": (str, _check_name),
    "webhook": (str, _check_url),
    "webhook_env": (str, _check_text),
    "secret_env": (str, _check_text),
    "command": (str, _check_command),
    "shell": (bool, _take_any),
    "apprise": (str, _check_text),
    "apprise_env": (str, _check_text),
    "events": (list, _check_events),
    "batches": (str, _check_text),
    "timeout": (float, _check_seconds),
}
_EXPECTED = {
    str: "text in quotes",
    bool: "true or false",
    float: "a number of seconds",
    list: 'a list of texts in quotes, such as ["finished", "paused"]',
}
