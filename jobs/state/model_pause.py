"""A model that its circuit breaker paused: why, and when it is tried again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from jobs.wire import local_time


@dataclass(frozen=True, slots=True)
class ModelPause:
    """One pause, as `worker/limits/circuit_breaker.lua` keeps it; `pause`, `next` and `since` are ms."""

    model: str
    failures: int
    of: int
    refusals: int
    message: str
    pause: int
    next: int
    probe: str
    since: int

    @classmethod
    def parse(cls, model: bytes, text: bytes) -> Self:
        """Read a field of the Redis hash and its value."""
        return cls(model.decode(), **json.loads(text))

    @property
    def why(self) -> str:
        """What the model did, in a clause."""
        if self.refusals:
            what = f"{self.refusals} creates in a row were refused"
        else:
            what = f"{self.failures} of its last {self.of} predictions failed"
        return f"{what}, the last one with: {self.message}" if self.message else what

    @property
    def reason(self) -> str:
        """What `status` says: why, what happens next, and what can be done."""
        when = local_time(self.next / 1000)
        then = f"{self.probe} tries it now" if self.probe else f"one prompt tries it again at {when}"
        cure = "when it is mended: python -m jobs resume"
        return f"model {self.model} is paused: {self.why.rstrip('.')}. {then[0].upper()}{then[1:]}; {cure}"
