"""Block pages that creates meet: an outage that holds everybody, unless it is one prompt's own input that is blocked.

A firewall before the API may refuse what looks like an attack in a prompt's text. That prompt would hold up all others
for ever, and never pass.
"""

from __future__ import annotations

from typing import NamedTuple

ENOUGH_PASSED = 10
"""Other creates that pass between two pages of one prompt before they say anything; and for each other page."""

ALONE = 3
"""Times in a row that only one prompt is blocked until it is taken for the cause."""


class _Seen(NamedTuple):
    alone: int
    passed: int
    blocked: int


class BlockPages:
    """What this worker's creates met since it started."""

    def __init__(self) -> None:
        self._passed = self._blocked = 0
        self._of: dict[str, _Seen] = {}

    def note_passed(self, prompt: str) -> None:
        """A create (or, without a name, another request) was answered by the API itself."""
        if prompt:
            self._passed += 1
            self._of.pop(prompt, None)

    def note_blocked(self, prompt: str) -> bool:
        """A create met a block page; True when this prompt is what is blocked."""
        self._blocked += 1
        seen = self._of.setdefault(prompt, _Seen(0, self._passed, self._blocked))
        passed, blocked = self._passed - seen.passed, self._blocked - 1 - seen.blocked
        if passed > ENOUGH_PASSED * max(blocked, 1):
            self._of[prompt] = _Seen(seen.alone + 1, self._passed, self._blocked)
        elif blocked > passed:
            self._of[prompt] = _Seen(0, self._passed, self._blocked)
        return self._of[prompt].alone >= ALONE
