"""The morning's summary of a batch: what was done, what failed and why, what it cost, where it lies, what is next."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from jobs.batch_folder.folder import Folder
from jobs.message_groups import message_group
from jobs.notify.event import Event
from jobs.prices.money import dollars, money
from jobs.wire import Batch, timestamp

SHOWN_REASONS = 5
MOST_REASONS = 20
MOST_GROUPS = 1000
OTHERS = "others"


@dataclass(slots=True)
class FailureTally:
    """How many prompts failed for which reason: kinds of errors with what their messages have in common."""

    groups: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count(self, kind: str, message: str) -> None:
        """Add one prompt that failed."""
        group = (kind, message_group(message))
        if group not in self.groups and len(self.groups) >= MOST_GROUPS:
            group = (kind, OTHERS)
        self.groups[group] += 1

    def reasons(self) -> list[dict[str, Any]]:
        """The most frequent reasons, each with its count."""
        found = self.groups.most_common(MOST_REASONS)
        return [{"kind": kind, "message": message, "count": count} for (kind, message), count in found]


def finished_event(batch: Batch, folder: Folder, tally: FailureTally, at: float) -> Event:
    """The event of a batch whose prompts all have their result."""
    data = facts_of(batch, folder, tally, at)
    return Event(
        id=f"finished:{batch.id}:{batch.generation}:{batch.total}",
        name="finished",
        at=at,
        title=_title(batch),
        lines=list(_lines(batch, data)),
        batch=batch.name,
        data=data,
    )


def facts_of(batch: Batch, folder: Folder, tally: FailureTally, at: float) -> dict[str, Any]:
    """The facts of a finished batch, as docs/notify.schema.json describes them."""
    path = folder.path.absolute()
    unsuccessful = batch.failed + batch.canceled
    return {
        "batch": batch.name,
        "batch_id": batch.id,
        "state": "canceled" if batch.cancel_requested else "finished",
        "total": batch.total,
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "canceled": batch.canceled,
        "reasons": tally.reasons(),
        "predictions": batch.predictions,
        "cost": dollars(batch.cost) if batch.cost else None,
        "cost_is_partial": bool(batch.cost and batch.unpriced),
        "created_at": timestamp(batch.created_at),
        "finished_at": timestamp(at),
        "seconds": round(max(at - batch.created_at, 0.0), 1),
        "host": socket.gethostname(),
        "folder": str(path),
        "gallery": str(path / folder.gallery.name),
        "next": f"python -m jobs {'retry' if unsuccessful else 'results'} {batch.name}",
    }


def _title(batch: Batch) -> str:
    word = "was canceled" if batch.cancel_requested else "is finished"
    counts = [f"{batch.succeeded:,} of {batch.total:,} succeeded"]
    counts += [f"{count:,} {word}" for count, word in ((batch.failed, "failed"), (batch.canceled, "canceled")) if count]
    return f"{batch.name} {word}: {', '.join(counts)}"


def _lines(batch: Batch, data: dict[str, Any]) -> Iterator[str]:
    reasons = data["reasons"]
    for reason in reasons[:SHOWN_REASONS]:
        yield f"{reason['count']:,} failed, {reason['kind']}: {reason['message']}"
    if (more := len(reasons) - SHOWN_REASONS) > 0:
        yield f"… and {more} other reason{'s' if more > 1 else ''}"
    least = "at least " if data["cost_is_partial"] else ""
    cost = "" if data["cost"] is None else f"Cost {least}{money(data['cost'])}, "
    took = timedelta(seconds=round(data["seconds"]))
    yield f"{cost}{'it' if cost else 'It'} took {took}. {batch.predictions:,} predictions."
    yield f"It lies on {data['host']} in {data['folder']}"
    yield f"Next: {data['next']}"
