"""Backoff: how long to wait after a failure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: from 0 to base · 2ⁿ seconds, at most `cap`; `attempts` is the most attempts, if limited."""

    base: float = 1.0
    cap: float = 60.0
    attempts: int | None = None

    def delay(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after the given attempt, counted from 1."""
        return draw() * min(self.cap, self.base * 2.0 ** min(max(attempt - 1, 0), 32))
