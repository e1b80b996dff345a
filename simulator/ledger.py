"""What the simulator was asked and what it did, for tests and benchmarks to check."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from simulator.models.rate_cards import billed
from simulator.predictions import Prediction, Predictions
from simulator.uploads import Upload, Uploads


class Ledger:
    """Counters of calls; creates are read from the predictions themselves."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.api_tokens: Counter[str] = Counter()
        self.file_tokens: Counter[str] = Counter()
        self.bytes_served = 0

    def body(
        self, predictions: Predictions, uploads: Uploads, now: float, struck: dict[str, int], *, summary: bool
    ) -> dict[str, Any]:
        """The ledger as JSON; `cost` is by prediction, `billed` by rate cards.

        `groups` lists creates of equal model and input (in a summary: only repeated ones).
        """
        rows, files = predictions.all(), uploads.all()
        groups = _groups(rows)
        repeated = [group for group in groups if len(group["ids"]) > 1]
        body = {
            "created": predictions.count,
            "repeated": sum(len(group["ids"]) - 1 for group in repeated),
            "cost": round(sum(row.cost(now) for row in rows), 6),
            "billed": str(sum((_billed(row, now) for row in rows), Decimal(0))),
            "statuses": dict(Counter(row.status(now) for row in rows)),
            "calls": dict(self.calls),
            "answers": dict(self.answers),
            "throttled": sum(self.throttled.values()),
            "throttled_calls": dict(self.throttled),
            "faults": struck,
            "api_tokens": dict(self.api_tokens),
            "file_tokens": dict(self.file_tokens),
            "bytes_served": self.bytes_served,
            "uploaded": len(files),
            "uploads_left": sum(upload.is_there(now) for upload in files),
            "unfetched": sum(bool(row.unfetched) for row in rows),
            "groups": repeated if summary else groups,
        }
        if summary:
            return body
        return body | {"creates": [_create(row, now) for row in rows], "uploads": [_upload(each) for each in files]}


def _create(row: Prediction, now: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "model": row.model.full_name,
        "asked": row.asked,
        "input": row.input,
        "cost": row.cost(now),
        "billed": str(_billed(row, now)),
        "status": row.status(now),
        "created_at": row.created,
        "finished_at": row.finish if now >= row.finish else None,
        "deadline": row.deadline,
        "canceled_by_call": row.canceled,
        "uploads": [upload.id for upload in row.uploads.values()],
        "unfetched": row.unfetched,
    }


def _upload(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "name": upload.name,
        "content_type": upload.content_type,
        "size": upload.size,
        "sha256": upload.sha256,
        "metadata": upload.metadata,
        "created_at": upload.created,
        "expires_at": upload.expires,
        "deleted_at": upload.deleted,
        "used_by": [prediction.id for prediction in upload.users],
    }


def _billed(row: Prediction, now: float) -> Decimal:
    """Dollars by the model's rate card, when it has ended."""
    return Decimal(0) if now < row.finish or row.final == "aborted" else billed(row.model, row.metrics())


def _groups(rows: list[Prediction]) -> list[dict[str, Any]]:
    groups: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        name = row.model.full_name
        group = groups.setdefault(row.digest(), {"model": name, "input": row.input, "ids": []})
        group["ids"].append(row.id)
    return list(groups.values())
