"""What people see of a status, in a terminal of any width."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from jobs.wire import Status


def a_status(**facts: Any) -> Status:
    basis: dict[str, Any] = {
        "batch": "prompts",
        "state": "running",
        "total": 10,
        "succeeded": 0,
        "failed": 0,
        "canceled": 0,
        "in_flight": 0,
        "waiting": 10,
        "unknown_creates": 0,
        "created_at": "2026-11-21T02:03:04.000Z",
        "rate_per_minute": 0.0,
        "workers": 1,
    }
    return Status(**{**basis, **facts})


def drawn(table: RenderableType, width: int = 120, **console: Any) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, **console).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]
