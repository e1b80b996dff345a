"""`redis-stop`: ends the embedded server."""

from __future__ import annotations

from jobs.config import Config
from jobs.redis_client import embedded
from jobs.terminal import print_lines


def redis_stop() -> None:
    """Stop the embedded server; it starts again when needed."""
    stopped = embedded.stop(Config.load().redis_dir)
    again = "`python -m jobs enqueue`, `run` or a worker starts it again"
    print_lines([f"Stopped; the next {again}." if stopped else f"No embedded server was running; {again}."])
