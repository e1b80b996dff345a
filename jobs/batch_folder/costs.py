"""What batches have cost, by the records in their folders: those of earlier tries too, which were paid as well.

A prediction counts once, also where two records have it, as after a retry that was cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import MANIFEST, RECORD, RETRIED
from jobs.prices.money import MICRO, dollars


@dataclass(frozen=True, slots=True)
class _Try:
    """A result of a prompt, with its `predictions`, and their `cost` in micro-dollars, None when that is not known."""

    prompt: str
    model: str
    ids: frozenset[str]
    predictions: int
    cost: int | None
    saved_at: datetime


class Spending(BaseModel):
    """What the prompts of one model cost, in dollars; that of `unknown` prompts is not known, or not wholly."""

    prompts: int = 0
    predictions: int = 0
    cost: float = 0.0
    unknown: int = 0

    def add(self, tries: list[_Try]) -> None:
        """Count the tries of a prompt."""
        self.prompts += 1
        self.predictions += sum(one.predictions for one in tries)
        self.cost = dollars(round(self.cost * MICRO) + sum(one.cost or 0 for one in tries))
        self.unknown += any(one.cost is None and one.predictions for one in tries)


class BatchCosts(BaseModel):
    """What a batch has cost, by model."""

    batch: str
    models: dict[str, Spending]

    @property
    def cost(self) -> float:
        """Dollars, as far as they are known."""
        return dollars(sum(round(spent.cost * MICRO) for spent in self.models.values()))


def read_costs(output_dir: Path, since: datetime | None = None) -> Iterator[BatchCosts]:
    """Yield the batches that have results since a time, by name; StorageError."""
    with storing(output_dir):
        names = sorted(path.parent.name for path in output_dir.glob(f"*/{MANIFEST}"))
    for name in names:
        models: dict[str, Spending] = {}
        for tries in _prompts(output_dir / name):
            by_model: dict[str, list[_Try]] = {}
            for one in _counted(tries):
                if since is None or one.saved_at >= since:
                    by_model.setdefault(one.model, []).append(one)
            for model, found in by_model.items():
                models.setdefault(model, Spending()).add(found)
        if models:
            yield BatchCosts(batch=name, models=dict(sorted(models.items())))


def _counted(tries: list[_Try]) -> Iterator[_Try]:
    """Yield the tries whose predictions no other one has."""
    known: list[frozenset[str]] = []
    for one in sorted(tries, key=lambda one: len(one.ids), reverse=True):
        if not one.ids or not any(one.ids <= ids for ids in known):
            known.append(one.ids)
            yield one


def _prompts(folder: Path) -> Iterator[list[_Try]]:
    """Yield the tries of each prompt; those of prompts that were never retried are read one by one."""
    earlier: dict[str, list[_Try]] = {}
    for one in _tries(folder / RETRIED):
        earlier.setdefault(one.prompt, []).append(one)
    for one in _tries(folder):
        yield [one, *earlier.pop(one.prompt, ())]
    yield from earlier.values()


def _tries(place: Path) -> Iterator[_Try]:
    """Yield the results on disk; what is no record is left to `verify`."""
    with storing(place), suppress(FileNotFoundError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            with suppress(OSError, ValueError):
                record = orjson.loads(Path(entry.path, RECORD).read_bytes())
                if isinstance(record, dict):
                    yield _try_of(record, entry.name)


def _try_of(record: dict[str, Any], name: str) -> _Try:
    cost, ids = record.get("cost"), record.get("prediction_ids", ())
    return _Try(
        prompt=str(record.get("id", name)),
        model=str(record.get("model")),
        ids=frozenset(ids),
        predictions=len(ids) + record.get("unknown_creates", 0),
        cost=round(cost * MICRO) if isinstance(cost, int | float) else None,
        saved_at=datetime.fromisoformat(record.get("saved_at") or "1970-01-01T00:00:00Z"),
    )
