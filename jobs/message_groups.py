"""Messages of failures that differ only in numbers, ids, addresses and quotes, as one."""

from __future__ import annotations

import re

LONGEST = 160
"""Characters of a message that count: what differs behind them is detail."""

_PARTS = (
    (re.compile(r"https?://\S+"), "…"),
    (re.compile(r"(?<!\w)(?:/[\w.@%+~-]+){2,}/?"), "…"),
    (re.compile(r"\"[^\"\n]{1,200}\"|'[^'\n]{1,200}'|`[^`\n]{1,200}`"), "…"),
    (re.compile(r"\b(?=[\da-z-]*\d)(?=[\da-z-]*[a-z])[\da-z]{2}[\da-z-]{8,}\b", re.IGNORECASE), "…"),
    (re.compile(r"\d[\d.,:]*"), "N"),
    (re.compile(r"\s+"), " "),
)


def message_group(message: str) -> str:
    """What a message has in common with others of its kind: its first line, with what varies left out."""
    text = first_line(message, 4 * LONGEST)
    for part, replacement in _PARTS:
        text = part.sub(replacement, text)
    return text.strip()[:LONGEST]


def first_line(message: str, longest: int = LONGEST) -> str:
    """The first line of a message that is not blank."""
    return next((line.strip() for line in message.splitlines() if line.strip()), "")[:longest]
