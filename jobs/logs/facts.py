"""Facts that the lines of one task's context have in common, such as its prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_FACTS: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)


@contextmanager
def log_facts(**facts: Any) -> Iterator[None]:
    """Give these facts to all lines that are logged in the block, and in tasks and threads that it starts."""
    token = _FACTS.set({**current_facts(), **facts})
    try:
        yield
    finally:
        _FACTS.reset(token)


def note_facts(**facts: Any) -> None:
    """Add facts to the innermost block of `log_facts`."""
    if (found := _FACTS.get()) is not None:
        found.update(facts)


def current_facts() -> dict[str, Any]:
    """The facts of the present context."""
    return _FACTS.get() or {}
