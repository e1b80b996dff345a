"""All combinations of the values that `--each` and `--repeat` name, one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.expansion.value_list import MOST, ValueList

Combination = tuple[dict[str, Any], list[str]]
"""What to set in a row, and the parts of its id."""

REPEAT = "repeat"
"""Stands in an id for the number of a repeat; it is no input."""


@dataclass(frozen=True)
class Matrix:
    """Keys and their values; the last one varies fastest. `repeats` has the numbers of repeats that set nothing."""

    each: tuple[ValueList, ...] = ()
    repeats: ValueList | None = None

    @cached_property
    def keys(self) -> frozenset[str]:
        """What is set in a row."""
        return frozenset(one.key for one in self.each)

    @property
    def count(self) -> int:
        """How many combinations there are."""
        return math.prod(one.count for one in self._lists)

    @cached_property
    def _lists(self) -> tuple[ValueList, ...]:
        return (*self.each, self.repeats) if self.repeats else self.each

    def combinations(self) -> Iterator[Combination]:
        """Yield each combination. The order of an id's parts does not depend on the order of the options."""
        order, keys = self._order, [one.key for one in self.each]
        for chosen in _products(self._lists):
            values = {key: value for key, (value, _) in zip(keys, chosen, strict=False)}
            yield values, [chosen[place][1] for place in order]

    @cached_property
    def _order(self) -> list[int]:
        """Where the parts of an id come from: short keys first (`seed`, `model`, `guidance`), the repeat last."""
        lists = self._lists
        return sorted(
            range(len(lists)), key=lambda place: (place == len(self.each), len(lists[place].key), lists[place].key)
        )


def _products(lists: Sequence[ValueList]) -> Iterator[tuple[tuple[Any, str], ...]]:
    """As itertools.product, which would hold all values of a range in memory."""
    if not lists:
        yield ()
        return
    *outer, last = lists
    for head in _products(outer):
        for item in last.values():
            yield (*head, item)


def build_matrix(each: Sequence[ValueList], repeat: int | None, seed_from: int | None) -> Matrix:
    """The matrix of these options; ValueError with a sentence when they do not go together."""
    lists = list(each)
    if seed_from is not None:
        if repeat is None:
            raise ValueError("--seed-from needs --repeat: it is the seed of the first repeat")
        lists.append(ValueList("seed", (range(seed_from, seed_from + repeat),)))
    keys = [one.key for one in lists]
    if twice := [key for key in keys if keys.count(key) > 1]:
        more = " (--seed-from sets it, too)" if twice[0] == "seed" and seed_from is not None else ""
        raise ValueError(f"{twice[0]} is given twice{more}; write all its values in one --each")
    repeats = ValueList(REPEAT, (range(1, repeat + 1),)) if repeat and seed_from is None else None
    matrix = Matrix(tuple(lists), repeats)
    if matrix.count > MOST:
        raise ValueError(f"each row would become more than {MOST:,} rows")
    return matrix
