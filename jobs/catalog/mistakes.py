"""Mistakes of rows, as people read them: lines that make the same one are told together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from jobs.catalog.input_schema import InputSchema
from jobs.errors import Problem
from jobs.secret_inputs import KEY, reveals_secret, secret_keys

MOST = 1000
"""Different mistakes that are told apart; of others only the first is kept."""

NAMED_LINES = 4
"""Lines of one mistake that are named, besides its first."""

LONGEST_VALUE = 60
_WANTED = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_BOUNDS = {
    "minimum": ("less than", "the least"),
    "exclusiveMinimum": ("not more than", "which it must be above"),
    "maximum": ("more than", "the most"),
    "exclusiveMaximum": ("not less than", "which it must be below"),
}


class Mistake(NamedTuple):
    """What is wrong with a row; lines with an equal `kind` make the same mistake."""

    kind: tuple[str, ...]
    message: str


def unknown_keys(model: str, schema: InputSchema, values: Mapping[str, Any]) -> Iterator[Mistake]:
    """A mistake for each key that the model would ignore without a word."""
    for key in values:
        if key not in schema.known:
            near = near_name(key, schema.known)
            yield Mistake((model, "unknown", key), f"{model} has no input {_shown(key)}{_meant(near)}")


def literal_secrets(model: str, schema: InputSchema, values: Mapping[str, Any]) -> Iterator[Mistake]:
    """A mistake for each secret that stands in the file: Replicate hides it, so that a lost create is never found."""
    for key in sorted(schema.secrets.intersection(values) - secret_keys(values)):
        if values[key]:
            cure = f'write {{"{KEY}": "NAME"}} in its place, and set NAME where the workers run'
            cure += " (or --allow-literal-secrets)"
            yield Mistake((model, "secret", key), f"{key!r} is a secret of {model}: {cure}")


def shown_secret(model: str, prompt_id: str, values: Mapping[str, Any]) -> Mistake | None:
    """The mistake of an id that has a literal secret of its row in it, as `--each` makes one of the values."""
    if not reveals_secret(prompt_id, values):
        return None
    secrets = sorted(secret_keys(values))
    cure = f'write {{"{KEY}": "NAME"}} in place of the secret, or give the row another id'
    return Mistake((model, "shown secret", *secrets), f"the id shows the value of {secrets[0]!r}, a secret: {cure}")


def wrong_values(model: str, schema: InputSchema, values: Mapping[str, Any]) -> Iterator[Mistake]:
    """A mistake for each value that the schema forbids, and each that is missing; of secrets only the worker knows."""
    secret = secret_keys(values) | {key for key in schema.secrets if values.get(key)}
    for error in schema.errors(values):
        path, keyword = list(error.instance_path), error.kind.name
        if path and path[0] in secret:
            continue
        if keyword == "required" and not path:
            name = error.kind.property
            yield Mistake((model, keyword, name), f"{name!r} is missing, which {model} needs")
            continue
        kind = (model, keyword, *(str(part) for part in path if isinstance(part, str)))
        yield Mistake(kind, f"{_place(path)} is {_shown(error.instance)}{_why(keyword, error, model)}")


def _place(path: list[Any]) -> str:
    return repr("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip("."))


def _why(keyword: str, error: Any, model: str) -> str:
    details = error.kind.as_dict()
    if keyword == "type":
        wanted = " or ".join(_WANTED.get(kind, kind) for kind in details["types"])
        return f", not {wanted}"
    if keyword in _BOUNDS:
        relation, end = _BOUNDS[keyword]
        tail = f"{end} of {model}" if end.startswith("the ") else end
        return f", {relation} {_shown(details['limit'])}, {tail}"
    if keyword == "enum":
        options = [_shown(option) for option in details["options"]]
        near = near_name(error.instance, frozenset(filter(_is_text, details["options"])))
        return f"; {model} takes {_listed(options)}{_meant(near)}"
    if keyword == "format":
        return ", not a URL: give an https URL, a data: URI or the path of a file"
    return f", which {model} does not take: {_short(error.message)}"


def near_name(name: Any, known: frozenset[str]) -> str | None:
    """The name that may be meant."""
    return _near(name, known) if isinstance(name, str) and len(name) <= 100 else None


@lru_cache(maxsize=10_000)
def _near(name: str, known: frozenset[str]) -> str | None:
    plain = {_plain(one): one for one in sorted(known)}
    found = get_close_matches(_plain(name), plain, n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _meant(near: str | None) -> str:
    return f"; did you mean {near!r}?" if near else ""


def _listed(options: list[str]) -> str:
    if len(options) > 12:
        return f"{', '.join(options[:12])} or {len(options) - 12} others"
    return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else "".join(options)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(_short(value))
    try:
        return _short(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


@dataclass(slots=True)
class _Group:
    message: str
    line: int
    last: int
    others: int = 0
    next_lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """Add a line; the variants that are made of one line are one."""
        if line == self.last:
            return
        self.last, self.others = line, self.others + 1
        if len(self.next_lines) < NAMED_LINES:
            self.next_lines.append(line)


class Mistakes:
    """All mistakes of a file; memory grows with their kinds only."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], _Group] = {}
        self.count = 0

    def add(self, line: int, mistakes: Iterable[Mistake]) -> None:
        """Count the mistakes of a row."""
        for kind, message in mistakes:
            self.count += 1
            if group := self._groups.get(kind):
                group.add(line)
            elif len(self._groups) < MOST:
                self._groups[kind] = _Group(message, line, line)

    def problems(self) -> list[Problem]:
        """One for each kind of mistake, by their first lines."""
        return [Problem(one.line, one.message, one.others, tuple(one.next_lines)) for one in self._groups.values()]
