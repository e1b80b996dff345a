"""What happened to a batch: its events, and the file that keeps them when the batch is finished."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.batch_folder.atomic_files import flush, move, storing
from jobs.batch_folder.folder import Folder

EventKind = Literal[
    "enqueued",
    "retried",
    "worker_started",
    "worker_lost",
    "paused",
    "resumed",
    "model_paused",
    "model_resumed",
    "limits",
    "canceled",
    "failed",
    "warning",
    "finished",
]


class Event(BaseModel):
    """Something that happened to a batch; `id` orders the events of one batch, `at` is RFC 3339, UTC.

    `failed` is of one `prompt`: `kind` is that of its error, and `message` the first line of its message. Otherwise
    `message` is a sentence for people, and `worker` the one that it happened to.
    """

    model_config = ConfigDict(frozen=True)

    id: str = ""
    at: str = ""
    event: EventKind
    message: str = ""
    prompt: str | None = None
    kind: str | None = None
    model: str | None = None
    worker: str | None = None

    @property
    def seconds(self) -> float:
        """When it happened, in Unix seconds."""
        return datetime.fromisoformat(self.at).timestamp()

    @property
    def text(self) -> str:
        """The event as JSON, without its id and time, which the log adds."""
        return self.model_dump_json(exclude_none=True, exclude={"id", "at"})


def read_events(folder: Folder) -> list[Event]:
    """The events in the batch's folder, oldest first; what is no event is skipped."""
    found = []
    with suppress(OSError):
        for line in folder.events.read_bytes().splitlines():
            with suppress(ValidationError):
                found.append(Event.model_validate_json(line))
    return found


def keep_events(folder: Folder, events: Iterable[Event], *, fsync: bool) -> None:
    """Write the events to the batch's folder, after those that are there already; StorageError.

    The new file has always the same name, as the batch has ended: nobody removes what a worker leaves that is killed.
    """
    known = {event.id: event for event in (*read_events(folder), *events)}
    new = folder.events.with_name(f"{folder.events.name}.new")
    with storing(folder.events):
        with new.open("wb") as file:
            for event in sorted(known.values(), key=lambda event: event.at):
                file.write(event.model_dump_json(exclude_none=True).encode() + b"\n")
            flush(file, fsync=fsync)
        move(new, folder.events, fsync=fsync)
