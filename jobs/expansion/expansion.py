"""What makes many rows of one, as the options of `enqueue` and `run` say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobs.expansion.matrix import Matrix
from jobs.expansion.variant_ids import variant_id


class Variant(NamedTuple):
    """A row's id, model (None: it names none) and input."""

    id: str
    model: str | None
    input: dict[str, Any]


@dataclass(frozen=True)
class Expansion:
    """Makes variants of rows; what it sets wins over what a row says."""

    matrix: Matrix

    @property
    def sets(self) -> frozenset[str]:
        """The keys that are set, whatever a row has there."""
        return self.matrix.keys

    def variants(self, row: Variant) -> Iterator[Variant]:
        """Yield the rows that a row becomes."""
        for values, parts in self.matrix.combinations():
            model = values.pop("model", row.model)
            yield Variant(variant_id(row.id, parts), model, row.input | values)
