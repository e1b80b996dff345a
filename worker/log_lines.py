"""What a log line may hold: texts of models and rows reach it, and must not steer the terminal that shows them."""

from __future__ import annotations

import logging


class LineFormatter(logging.Formatter):
    """Time and message, as arq's own lines are; what cannot be printed becomes U+FFFD."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s: %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback's lines, without control characters."""
        return "".join(c if c == "\n" or c.isprintable() else "�" for c in super().format(record))
