"""An event that people are notified of, as one value: its facts, its text, and the payload of a webhook."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, model_validator

from jobs.wire import timestamp

EventName = Literal["finished", "missed", "paused", "backlog", "budget", "dead_letter"]
TYPES = {
    "finished": "batch.finished",
    "missed": "schedule.missed",
    "paused": "account.paused",
    "backlog": "outputs.endangered",
    "budget": "batch.over_budget",
    "dead_letter": "batch.dead_letter",
    "test": "notify.test",
}
"""The names of events in notify.toml, and the types of their payloads."""

EVENTS = tuple(name for name in TYPES if name != "test")

LONGEST_TITLE, LONGEST_TEXT = 200, 1800
"""Characters; Discord takes 2,000, and cuts or refuses the rest."""


class Event(BaseModel):
    """Something that happened once: two events of one `id` are the same. `at` is in Unix seconds.

    `batch` is the name that the filter of a receiver is for, "" when no single batch is concerned.
    """

    id: str
    name: EventName | Literal["test"]
    at: float
    title: str
    lines: list[str] = []
    batch: str = ""
    data: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _replace_surrogates(cls, values: Any) -> Any:
        """Parts of foreign paths and messages that are no UTF-8 become `?`: an event must not hold up its batch."""
        return _as_utf8(values)

    @property
    def message_id(self) -> str:
        """The same for every try and every receiver, so that a receiver can drop what it has; without full stops."""
        return f"msg_{hashlib.sha256(self.id.encode()).hexdigest()[:32]}"

    @property
    def subject(self) -> str:
        """The title as one short line."""
        return _cut(" ".join(self.title.split()), LONGEST_TITLE)

    @property
    def text(self) -> str:
        """The lines below the title, no longer than chat services take."""
        return _cut("\n".join(self.lines), LONGEST_TEXT)

    def payload(self) -> dict[str, Any]:
        """The body of a webhook, as docs/notify.schema.json describes it."""
        facts = {**self.data, "title": self.subject, "text": self.text}
        return {"type": TYPES[self.name], "timestamp": timestamp(self.at), "data": facts}


def _as_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_as_utf8(key): _as_utf8(item) for key, item in value.items()}
    return [_as_utf8(item) for item in value] if isinstance(value, list) else value


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 2]} …"
