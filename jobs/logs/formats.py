"""The formats of log lines: text for people, JSON for machines. No message can forge a line or steer a terminal."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
from typing import Any

from jobs.logs.facts import current_facts
from jobs.text import printable
from jobs.wire import timestamp

FIELDS = ("event", "batch", "prompt", "model", "prediction", "seconds", "cost", "kind", "attempt", "files", "bytes")
"""What a line may have in its `extra`; other names are not ours, and may be anything."""

OF_ONE_PROMPT = ("worker.prompt.", "worker.outputs.")
"""Modules that work for the prompt of their context; what others log in it may concern all."""

_COLORS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def process_name() -> str:
    """The host and the process, as lines show them."""
    return f"{socket.gethostname()}/{os.getpid()}"


class LineFormatter(logging.Formatter):
    """Date and time with zone, level, host and process, message; unprintable characters become U+FFFD."""

    def __init__(self, *, color: bool = False) -> None:
        process = process_name().replace("%", "%%")
        super().__init__(f"%(asctime)s %(levelname)s {process}: %(message)s", datefmt="%Y-%m-%d %H:%M:%S%z")
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without control characters but those of the level's color; lines that follow are indented."""
        line, level = printable(super().format(record)).replace("\n", "\n  "), record.levelname
        if self._color and (color := _COLORS.get(level)):
            return line.replace(f" {level} ", f" \x1b[{color}m{level}\x1b[0m ", 1)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: with the time, level, event, message and what else is known of the line."""

    def __init__(self) -> None:
        super().__init__()
        self._process = process_name()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is its `exception`."""
        facts = current_facts() if record.name.startswith(OF_ONE_PROMPT) else {}
        own = {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        module = record.name.rpartition(".")[2]
        line = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": f"{module}.{record.funcName}",
            "message": _message(record),
            **facts,
            **own,
            "logger": record.name,
            "process": self._process,
            "exception": self._traceback(record),
        }
        return json.dumps({key: _plain(value) for key, value in line.items() if value is not None})

    def _traceback(self, record: logging.LogRecord) -> str | None:
        parts = [
            self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else record.exc_text,
            self.formatStack(record.stack_info) if record.stack_info else None,
        ]
        return "\n".join(filter(None, parts)) or None


def _message(record: logging.LogRecord) -> str:
    """The text; with its arguments as they are where they do not fit it, as happens in libraries."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - any argument's __str__ may fail, and the line must not be lost
        return f"{record.msg} {record.args!r}"


def _plain(value: Any) -> str | float | None:
    """A value that every reader of JSON takes: no NaN, no lone surrogate, no object."""
    if isinstance(value, int | float):
        return value if isinstance(value, int) or math.isfinite(value) else None
    text = value if isinstance(value, str) else repr(value)
    return text if text.isascii() else text.encode(errors="replace").decode()
