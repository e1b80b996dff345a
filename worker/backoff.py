"""How long to wait after a failure."""

from __future__ import annotations

import random as dice
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: from 0 to base · 2ⁿ seconds, at most `cap`; `attempts` is how many make sense in all."""

    base: float = 1.0
    cap: float = 60.0
    attempts: int | None = None

    def delay(self, attempt: int, random: Callable[[], float] = dice.random) -> float:
        """Seconds to wait after that many tries (from 1)."""
        return random() * min(self.cap, self.base * 2.0 ** min(max(attempt - 1, 0), 32))
