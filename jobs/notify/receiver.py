"""Who gets which events, and how."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from jobs.notify.event import EVENTS, Event

Kind = Literal["webhook", "command", "apprise"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver of notify.toml; `target` and `secret` may be secret, and are shown nowhere.

    `command` is run by a shell if `shell`; `timeout` is in seconds; `batches` is a pattern of names.
    """

    name: str
    kind: Kind
    target: str = field(repr=False)
    secret: bytes = field(default=b"", repr=False)
    events: tuple[str, ...] = EVENTS
    batches: str = "*"
    timeout: float = 20.0
    shell: bool = False

    def wants(self, event: Event) -> bool:
        """Whether it gets this event; one that concerns no single batch is for everybody."""
        return event.name in self.events and (not event.batch or fnmatchcase(event.batch, self.batches))

    @property
    def mark(self) -> str:
        """What differs when its target does, and does not reveal it."""
        return hashlib.sha256(f"{self.kind} {self.target}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try to deliver ended: `why` it failed, "" when it did not.

    `final`: no further try would help; `gone`: the receiver wants nothing any more. `retry_after` is in seconds.
    """

    why: str = ""
    final: bool = False
    gone: bool = False
    retry_after: float | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has the event."""
        return not self.why


DELIVERED = Outcome()
