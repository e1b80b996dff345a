"""The three kinds of rate limiter that a server may have, and the API's 429 answer."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Protocol

from simulator.answers import Problem
from simulator.randomness import SeededRandom
from simulator.settings import Settings

LOW_CREDIT = 5.0
_REDUCED = 6


class Limiter(Protocol):
    """The interface of every kind; `now` is in seconds of any clock."""

    def take(self, now: float) -> float:
        """0 when the call is admitted, else the seconds until one would be."""

    def remaining(self, now: float) -> int:
        """Calls that would be admitted now."""


class SlidingWindow:
    """At most `limit` calls in any `window` seconds: the strictest kind."""

    def __init__(self, limit: int, window: float, *, rejected_count: bool) -> None:
        self._window, self._rejected_count = window, rejected_count
        self._calls: deque[float] = deque(maxlen=limit)

    def take(self, now: float) -> float:
        """Admit the call or say how long until one would be."""
        calls = self._calls
        free = len(calls) < (calls.maxlen or 0) or calls[0] <= now - self._window
        if free or self._rejected_count:
            calls.append(now)
        return 0.0 if free else calls[0] + self._window - now

    def remaining(self, now: float) -> int:
        """Calls that would be admitted now."""
        while self._calls and self._calls[0] <= now - self._window:
            self._calls.popleft()
        return (self._calls.maxlen or 0) - len(self._calls)


class FixedWindow:
    """At most `limit` calls in each window; windows begin with the first call."""

    def __init__(self, limit: int, window: float) -> None:
        self._limit, self._window = limit, window
        self._ends, self._used = -math.inf, 0

    def take(self, now: float) -> float:
        """Admit the call or say when the next window begins."""
        self._turn(now)
        self._used += 1
        return 0.0 if self._used <= self._limit else self._ends - now

    def remaining(self, now: float) -> int:
        """Calls left in this window."""
        self._turn(now)
        return max(0, self._limit - self._used)

    def _turn(self, now: float) -> None:
        if now >= self._ends:
            passed = math.floor((now - self._ends) / self._window) + 1 if self._ends > -math.inf else 0
            self._ends = self._ends + passed * self._window if passed else now + self._window
            self._used = 0


class TokenBucket:
    """A bucket of `burst` tokens, refilled at limit/window; rejected calls may cost a token of the future."""

    def __init__(self, limit: int, window: float, burst: int, *, rejected_count: bool) -> None:
        self._rate, self._burst, self._rejected_count = limit / window, burst, rejected_count
        self._tokens, self._at = float(burst), -math.inf

    def take(self, now: float) -> float:
        """Admit the call or say when a token is there."""
        self._refill(now)
        free = self._tokens >= 1
        if free or self._rejected_count:
            self._tokens = max(self._tokens - 1, -self._burst)
        return 0.0 if free else (1 - self._tokens) / self._rate

    def remaining(self, now: float) -> int:
        """Whole tokens in the bucket."""
        self._refill(now)
        return max(0, math.floor(self._tokens))

    def _refill(self, now: float) -> None:
        if self._at > -math.inf:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Limits:
    """One limiter each for creates, GETs of one prediction and all other calls; uploads have none."""

    def __init__(self, settings: Settings, random: SeededRandom) -> None:
        self._random = random
        limits = {"create": settings.limit_creates, "get": settings.limit_gets, "read": settings.limit_reads}
        self._limiters = {bucket: _limiter(settings, limit) for bucket, limit in limits.items()}
        self._reduced = TokenBucket(_REDUCED, settings.limit_window, 1, rejected_count=False)

    def take(self, kind: str, now: float, credit: float | None) -> dict[str, str]:
        """Headers for the answer; Problem 429 when the call comes too early. `now` is monotonic."""
        bucket = kind if kind in ("create", "get") else "read"
        limiter = self._limiters[bucket]
        if limiter is None or kind in ("upload", "files"):
            return {}
        if bucket == "create" and credit is not None and credit < LOW_CREDIT:
            wait = self._reduced.take(now)
            if wait:
                raise self.throttled(wait, reduced=True)
            return {"ratelimit-remaining": "0", "ratelimit-reset": "1"}
        wait = limiter.take(now)
        if wait:
            raise self.throttled(wait)
        return {"ratelimit-remaining": str(limiter.remaining(now)), "ratelimit-reset": "1"}

    def throttled(self, wait: float, *, reduced: bool = False, form: str | None = None, detail: str = "") -> Problem:
        """429; the wait is always in the text and by chance in a field or a header, too; `detail` is another text."""
        if detail:
            return Problem(429, detail, title="Too many requests")
        seconds = max(1, math.ceil(wait))
        form = form or self._random["throttled"].choice(("text", "field", "header"))
        text = f"Your rate limit resets in ~{seconds}s."
        if not reduced:
            text = f"Request was throttled. {text}"
        else:
            text = (
                "Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per minute "
                f"with a burst of 1 requests while you have less than $5.0 in credit. {text}"
            )
        headers = {"ratelimit-remaining": "0", "ratelimit-reset": "1"}
        if form == "header":
            headers["retry-after"] = str(seconds)
        more: dict[str, Any] = {"retry_after": seconds} if reduced or form == "field" else {}
        return Problem(429, text, headers=headers, **more)


def _limiter(settings: Settings, limit: int) -> Limiter | None:
    window, counts = settings.limit_window, settings.limit_rejected
    match settings.limiter:
        case "sliding":
            return SlidingWindow(limit, window, rejected_count=counts)
        case "fixed":
            return FixedWindow(limit, window)
        case "bucket":
            return TokenBucket(limit, window, settings.limit_burst, rejected_count=counts)
        case _:
            return None
