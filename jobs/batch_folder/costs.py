"""What batches have cost, by the records in their folders: those of earlier tries too, which were paid as well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import MANIFEST, RECORD, RETRIED
from jobs.prices.money import MICRO, dollars


class Spending(BaseModel):
    """What the prompts of one model cost, in dollars; of `unknown` prompts it is not known."""

    prompts: int = 0
    predictions: int = 0
    cost: float = 0.0
    unknown: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Count a result."""
        cost = record.get("cost")
        self.prompts += 1
        self.predictions += len(record.get("prediction_ids", ())) + record.get("unknown_creates", 0)
        if isinstance(cost, int | float):
            self.cost = dollars(round(self.cost * MICRO) + round(cost * MICRO))
        else:
            self.unknown += 1


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
        for record in _records(output_dir / name):
            if since is None or _saved_at(record) >= since:
                models.setdefault(str(record.get("model")), Spending()).add(record)
        if models:
            yield BatchCosts(batch=name, models=dict(sorted(models.items())))


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the results on disk; what is no record is left to `verify`."""
    for place in (folder, folder / RETRIED):
        with storing(place), suppress(FileNotFoundError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_dir():
                    continue
                with suppress(OSError, ValueError):
                    record = orjson.loads(Path(entry.path, RECORD).read_bytes())
                    if isinstance(record, dict):
                        yield record


def _saved_at(record: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(record.get("saved_at") or "1970-01-01T00:00:00Z")
