"""Fault injection: what can go wrong, how often, and in which calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from simulator.answers import Problem
from simulator.randomness import SeededRandom

API_CALLS = frozenset({"create", "get", "list", "cancel", "upload", "files", "models", "account"})
CALLS = API_CALLS | {"output"}
_CREATE, _LIST, _OUTPUT = frozenset({"create"}), frozenset({"list"}), frozenset({"output"})
_UPLOAD = frozenset({"upload"})

FAULTS: dict[str, frozenset[str]] = {
    "error": API_CALLS,  # 5xx before the effect; status, form = problem | html | cloudflare | empty, retry_after
    "reset": API_CALLS,  # the connection is reset before the effect
    "hang": API_CALLS,  # no answer, no effect; seconds
    "delay": API_CALLS,  # the answer comes late; seconds
    "throttle": API_CALLS,  # 429; seconds, form = header | field | text, detail = the whole text
    "unauthorized": API_CALLS,  # 401
    "payment_required": _CREATE,  # 402; text
    "lost_answer": _CREATE | _UPLOAD,  # the effect is done; how = reset | hang | 502
    "late_answer": _CREATE,  # the effect is done, and the answer comes late; seconds
    "aborted": _CREATE,  # the prediction ends aborted before its start
    "canceled": _CREATE,  # the prediction ends canceled while it runs
    "failed": _CREATE,  # the prediction fails; text (default null)
    "unknown_status": _CREATE,  # an undocumented status for a while; text, seconds
    "data_removed": _CREATE,  # it succeeds, and its data is gone
    "list_lag": _LIST,  # a prediction is not in the list yet; seconds
    "stale_list": _LIST,  # the list shows the status of a while ago; seconds
    "cut_upload": _UPLOAD,  # the connection is reset while the content comes; fraction
    "wrong_upload": _UPLOAD,  # another content is stored; its checksums tell
    "short_upload": _UPLOAD,  # it expires early, and says so; seconds
    "bare_upload": _UPLOAD,  # the answer lacks fields; hidden = their names (default: checksums, expires_at, etag)
    "slow_body": _OUTPUT,  # the body takes this long; seconds
    "truncated_body": _OUTPUT,  # the connection ends early; fraction
    "broken_body": _OUTPUT,  # the connection is reset in the body; fraction
    "wrong_length": _OUTPUT,  # a shorter Content-Length, and a body cut to it; fraction
    "wrong_bytes": _OUTPUT,  # one byte differs; only a checksum tells
    "bare_file": _OUTPUT,  # chunked, without length, ETag and checksums
    "expired_file": _OUTPUT,  # 404
    "late_file": _OUTPUT,  # 404 until so long after its prediction's end; seconds
    "redirect": _OUTPUT,  # 302 to another URL of the same bytes; hops, to
}
"""Every fault with the calls that it hits unless `kinds` says otherwise, and its options."""

ALIASES = {"no_answer": "hang", "failed_null": "failed", "429": "throttle"}


@dataclass(slots=True)
class Fault:
    """One armed fault: a rate, or the next n calls; `options` say how."""

    rate: float
    next: int
    kinds: frozenset[str]
    options: dict[str, Any] = field(default_factory=dict)

    def seconds(self, default: float) -> float:
        """How long, if the fault takes time."""
        return float(self.options.get("seconds", default))


class Faults:
    """What is armed now; `strike` asks whether a fault hits this call."""

    def __init__(self, random: SeededRandom, initial: dict[str, Any] | None = None) -> None:
        self._random = random
        self._armed: dict[str, Fault] = {}
        self.struck: dict[str, int] = {}
        self.arm(initial or {})

    def arm(self, specifications: dict[str, Any]) -> None:
        """Arm faults from JSON: `{name: rate}` or `{name: {"rate": r, "next": n, "kinds": […], …}}`; 0 disarms."""
        named = {ALIASES.get(name, name): value for name, value in specifications.items()}
        read = {name: _read(name, value) for name, value in named.items()}
        for name, fault in read.items():
            if fault.rate or fault.next:
                self._armed[name] = fault
            else:
                self._armed.pop(name, None)

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def armed(self) -> dict[str, Any]:
        """What is armed, as JSON."""
        return {
            name: {"rate": fault.rate, "next": fault.next, "kinds": sorted(fault.kinds), **fault.options}
            for name, fault in self._armed.items()
        }

    def strike(self, name: str, kind: str) -> Fault | None:
        """The fault if it hits this call; a `next` is used up by it."""
        fault = self._armed.get(name)
        if fault is None or kind not in fault.kinds:
            return None
        if fault.next:
            fault.next -= 1
            if not fault.next and not fault.rate:
                del self._armed[name]
        elif self._random[name].random() >= fault.rate:
            return None
        self.struck[name] = self.struck.get(name, 0) + 1
        return fault


def from_flag(text: str) -> tuple[str, Any]:
    """`lost_answer=0.05` or `hang={"next": 1}` as name and specification; ValueError when it is neither."""
    name, _, value = text.partition("=")
    return name, json.loads(value or "1")


def _read(name: str, value: Any) -> Fault:
    if name not in FAULTS:
        raise Problem(422, f"no fault {name!r}; there are: {', '.join(FAULTS)}")
    options = dict(value) if isinstance(value, dict) else {"rate": value}
    count, rate = options.pop("next", 0), options.pop("rate", None)
    rate = (0.0 if count else 1.0) if rate is None else rate
    if not isinstance(rate, int | float) or not 0 <= rate <= 1 or not isinstance(count, int) or count < 0:
        raise Problem(422, f"fault {name!r}: rate is a number from 0 to 1, next a whole number")
    kinds = frozenset(options.pop("kinds", FAULTS[name]))
    if not kinds <= CALLS:
        raise Problem(422, f"fault {name!r}: kinds are {', '.join(sorted(CALLS))}")
    return Fault(float(rate), count, kinds, options)
