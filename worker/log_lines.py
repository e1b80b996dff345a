"""What a log line may hold: texts of models and rows reach it, and must not steer the terminal that shows them."""

from __future__ import annotations

import logging

from jobs.absence import is_news
from jobs.foreign_text import printable


class LineFormatter(logging.Formatter):
    """Time and message, as arq's own lines are; what cannot be printed becomes U+FFFD."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s: %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback's lines, without control characters."""
        return printable(super().format(record))


def show_logs() -> None:
    """Show our log lines as arq shows its own; arq's own are left out: they take a virtual time for a date."""
    logging.getLogger("arq.worker").setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(is_news)
    for name in ("worker", "jobs"):
        log = logging.getLogger(name)
        if not log.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(LineFormatter())
            handler.addFilter(is_news)
            log.addHandler(handler)
        log.setLevel(logging.INFO)
