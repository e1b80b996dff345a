"""`redis-stop`: ends the embedded server."""

from __future__ import annotations

import typer

from jobs.config import Config
from jobs.redis_client import embedded


def redis_stop() -> None:
    """Stop the embedded server; it starts again when needed."""
    typer.echo("Stopped." if embedded.stop(Config.load().redis_dir) else "No embedded server was running.")
