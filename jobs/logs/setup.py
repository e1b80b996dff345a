"""Setting up the logs of a process that runs for long: a worker, the dashboard."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

from jobs.config import Config
from jobs.environment import wants_color
from jobs.errors import BatchError
from jobs.logs.formats import JsonFormatter, LineFormatter
from jobs.redis_client.outage import is_news

OURS = ("worker", "jobs")
LIBRARIES = logging.WARNING
"""The least level of what libraries log."""

REPEAT_SECONDS = 60.0
"""How often libraries may log the same: an exporter of traces warns at each try while its collector is away."""

logger = logging.getLogger(__name__)


def set_up_logs(config: Config) -> None:
    """Log to standard error as BATCH_LOG_FORMAT and BATCH_LOG_LEVEL say, libraries too.

    Handlers that the user has configured (`arq --custom-log-dict`) stay, and get no lines twice. arq's job lines are
    left out, as they misread our scores as dates.
    """
    as_json, level = config.log_format == "json", logging.getLevelNamesMapping()[config.log_level.upper()]
    color = wants_color(is_terminal=sys.stderr.isatty())
    formatter = JsonFormatter() if as_json else LineFormatter(color=color)
    root, arq = logging.getLogger(), logging.getLogger("arq")
    if not root.handlers:
        stream = logging.StreamHandler()
        stream.addFilter(is_news)
        stream.addFilter(Repeats())
        stream.setFormatter(formatter)
        root.addHandler(stream)
    root.setLevel(max(level, LIBRARIES))
    for handler in arq.handlers:
        handler.setFormatter(formatter)
    arq.propagate = not arq.handlers
    logging.getLogger("arq.worker").setLevel(max(level, LIBRARIES))
    logging.getLogger("asyncio").addFilter(is_news)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    if as_json:
        logging.captureWarnings(capture=True)
        sys.excepthook = _log_uncaught


class Repeats(logging.Filter):
    """Passes what a library logs again and again, by its text without arguments, once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is ours, or was not logged within the last minute."""
        if record.name.partition(".")[0] in OURS:
            return True
        line, before = (record.name, str(record.msg)), record.created - REPEAT_SECONDS
        self._logged = {line: at for line, at in self._logged.items() if at > before}
        return self._logged.setdefault(line, record.created) == record.created


def report_end(config: Config | None, why: BatchError | str) -> None:
    """Say in one sentence why the process ends, whatever the level: as a line of JSON where the log is JSON."""
    if config and config.log_format == "json":
        set_up_logs(config)  # unless that was done
        logger.critical("%s", why, extra={"event": "process_ended"})
    else:
        print(why, file=sys.stderr)  # noqa: T201  # for the terminal, independent of the log settings


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        logger.critical("uncaught %s", kind.__name__, exc_info=(kind, error, traceback), extra={"event": "crashed"})
