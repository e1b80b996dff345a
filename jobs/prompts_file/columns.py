"""Columns that `--map OLD=NEW` renames, or leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from jobs.errors import Problem

BESIDE_INPUT = ("id", "custom_id", "model")


class Columns:
    """New names for the columns of a file; "" leaves one out. Remembers which columns the file has."""

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = names or {}
        self._met = dict[str, None]()

    def __bool__(self) -> bool:
        return bool(self._names)

    def name_of(self, column: str) -> str:
        """The new name of a column, "" if it is left out."""
        return self._names.get(column, column)

    def rename_all(self, header: Sequence[str]) -> list[str]:
        """The new names of a table's columns, "" for those that are left out; ValueError when two are the same."""
        self._meet(header)
        names = [self.name_of(name) for name in header]
        for name in filter(None, names):
            if names.count(name) > 1:
                raise ValueError(self._taken(name, header))
        return names

    def rename(self, row: Any) -> Any:
        """A row of JSON with its new names, beside its input and in it; ValueError when two are the same."""
        inner = row.get("input", {}) if isinstance(row, dict) else None
        if not isinstance(inner, dict):
            return row
        given = [(name, value, False) for name, value in row.items() if name != "input"]
        given += [(name, value, True) for name, value in inner.items()]
        self._meet([name for name, _, _ in given])
        values: dict[str, Any] = {}
        found: dict[str, Any] = {"input": values} if "input" in row else values
        for old, value, is_inside in given:
            new = self.name_of(old)
            beside = not is_inside if new == old else new in BESIDE_INPUT
            target = found if beside else values
            if new in target:
                raise ValueError(self._taken(new, [name for name, _, _ in given]))
            if new:
                target[new] = value
        return found

    def problems(self) -> list[Problem]:
        """A problem for each column that no row has."""
        found = []
        for name in self._names:
            if name not in self._met:
                near = get_close_matches(name, self._met, 1)
                meant = f"is {near[0]!r} meant?" if near else f"there are {', '.join(list(self._met)[:8]) or 'none'}"
                found.append(Problem(0, f"--map {name}={self._names[name]}: no row has a column {name!r}; {meant}"))
        return found

    def _taken(self, name: str, names: Sequence[str]) -> str:
        old = next((old for old, new in self._names.items() if new == name), name)
        other = f"; leave that one out by --map {name}=" if name in names else ""
        return f"--map {old}={name}: there is another {name!r}{other}"

    def _meet(self, names: Sequence[str]) -> None:
        if len(self._met) < 1000 or not self._met.keys() >= self._names.keys():
            self._met.update(dict.fromkeys(names))


def read_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """`OLD=NEW` pairs; ValueError names a wrong one."""
    names: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = (part.strip() for part in pair.partition("="))
        if not old or not equals:
            raise ValueError(f"{pair!r} is not OLD=NEW, or OLD= to leave a column out")
        if "input" in (old, new):
            raise ValueError("'input' is no column")
        if old in names:
            raise ValueError(f"{old} is given twice")
        names[old] = new
    targets = [new for new in names.values() if new]
    if twice := [new for new in targets if targets.count(new) > 1]:
        raise ValueError(f"two columns would be {twice[0]}")
    return names
