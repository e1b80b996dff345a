"""Ids of the rows that one row becomes: readable, and derived only from the row's own id and the values.

Whoever enqueues again with more values, or with the options in another order, gets the same ids, and pays only for what
is new.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from jobs.names import LONGEST_PROMPT_ID

LONGEST_SLUG = 48

_CLEAN = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
_SEPARATING = re.compile(r"[\s/:]")
_CUT = 24
"""Characters that are left of a value that cannot stand in an id as it is; its hash follows."""


def slug(value: Any) -> str:
    """A value as it stands in an id. No slug has two hyphens in a row, as they separate the parts of an id."""
    if type(value) is int and value >= 0:
        return str(value)
    text = value if isinstance(value, str) else canonical(value)
    plain = _SEPARATING.sub("-", text if isinstance(value, str) else text.replace("-", "minus", text[:1] == "-"))
    if _CLEAN.fullmatch(plain) and len(plain) <= LONGEST_SLUG:
        return plain
    readable = "-".join(re.findall(r"[A-Za-z0-9]+", text))[:_CUT].rstrip("-")
    return f"{readable}-{digest(text, 6)}".lstrip("-")


def canonical(value: Any) -> str:
    """A JSON value as text, the same for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def variant_id(base: str, parts: Iterable[str]) -> str:
    """The id of a row that was made of the row `base`; what is too long for an id ends with its hash."""
    name = "--".join((base, *parts))
    if len(name) <= LONGEST_PROMPT_ID:
        return name
    return f"{name[: LONGEST_PROMPT_ID - 14]}--{digest(name, 12)}"


def digest(text: str, digits: int) -> str:
    """Hex digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
