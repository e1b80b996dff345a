"""The format of log lines: time, level, worker, message, without control characters."""

from __future__ import annotations

import logging
import os
import socket

from jobs.redis_client.outage import is_news
from jobs.text import printable


class LineFormatter(logging.Formatter):
    """Date and time with zone, level, host and process, message; unprintable characters become U+FFFD."""

    def __init__(self) -> None:
        worker = f"{socket.gethostname()}/{os.getpid()}".replace("%", "%%")
        super().__init__(f"%(asctime)s %(levelname)s {worker}: %(message)s", datefmt="%Y-%m-%d %H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback's lines, without control characters."""
        return printable(super().format(record))


def set_up_logs() -> None:
    """Set up our loggers, and arq's in the same format but without its job lines, which misread our scores as dates."""
    logging.getLogger("arq.worker").setLevel(logging.WARNING)
    for handler in logging.getLogger("arq").handlers:
        handler.setFormatter(LineFormatter())
    logging.getLogger("asyncio").addFilter(is_news)
    for name in ("worker", "jobs"):
        log = logging.getLogger(name)
        if not log.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(LineFormatter())
            handler.addFilter(is_news)
            log.addHandler(handler)
        log.setLevel(logging.INFO)
