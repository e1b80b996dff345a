"""What each command prints with `--json`, and its JSON schema in docs/schemas.

`python -m tests.json_outputs` writes the schemas again after a model has changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from pydantic import Field, TypeAdapter

from jobs.batch_folder.reviews import Review
from jobs.cli.costs import Costs
from jobs.cli.prices import KnownPrice
from jobs.enqueue.enqueue import Checked
from jobs.enqueue.sharding import Receipt
from jobs.events.event import Event
from jobs.notify.overview import Notifications, Trial
from jobs.operations.history import PromptLog
from jobs.operations.limits import LimitsChanged
from jobs.operations.preview import Preview
from jobs.operations.prompts_canceled import PromptsCanceled
from jobs.schedules.scheduler import ScheduleStatus
from jobs.schedules.upcoming import FireTime
from jobs.verify.disagreements import Verification
from jobs.wire import Result, Status
from worker.doctor.finding import Finding
from worker.orphans.audit import OrphanList


class LineReview(Review):
    """What somebody thinks of a result, in its line."""

    id: str = Field(exclude=True)


class ResultLine(Result):
    """A line of results.jsonl; `review` is there only if somebody has reviewed the result."""

    review: LineReview | None = None


SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"

OUTPUTS: dict[str, Any] = {
    "batch": Status,
    "batches": list[Status],
    "check": Checked,
    "costs": Costs,
    "dry-run": Preview,
    "event": Event,
    "findings": list[Finding],
    "limits": LimitsChanged,
    "notifications": Notifications,
    "notify-test": list[Trial],
    "orphans": OrphanList,
    "prices": list[KnownPrice],
    "prompt-log": PromptLog,
    "prompts-canceled": PromptsCanceled,
    "receipt": Receipt,
    "result": ResultLine,
    "schedules": list[ScheduleStatus],
    "schedules-next": list[FireTime],
    "verification": Verification,
}
"""The models by the names of their schemas."""


def schema_of(name: str) -> str:
    """The text of a schema."""
    schema = TypeAdapter(OUTPUTS[name]).json_schema(mode="serialization")
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**draft, **schema}, indent=2, ensure_ascii=False) + "\n"


def is_as_described(schema: str, text: str) -> bool:
    """Whether all of it, or each of its lines, is as the schema says; ValidationError names what is not."""
    validator = jsonschema_rs.validator_for(json.loads((SCHEMAS / f"{schema}.json").read_text()))
    texts = text.splitlines() if schema in ("event", "result") else [text]
    for one in texts:
        validator.validate(json.loads(one))
    return bool(texts)


if __name__ == "__main__":
    for each in OUTPUTS:
        (SCHEMAS / f"{each}.json").write_text(schema_of(each), encoding="utf-8")
