"""Which server the settings name, and whether it has ever run; imports no client, so that it costs nothing to ask."""

from __future__ import annotations

from urllib.parse import urlsplit

from jobs.config import Config
from jobs.errors import NothingEnqueued
from jobs.redis_client import embedded


def check_has_run(config: Config) -> None:
    """NothingEnqueued when the settings name an embedded server that has never run."""
    if not config.redis_url and not embedded.has_run(config.redis_dir):
        raise NothingEnqueued(
            f"Nothing was ever enqueued here: {server_name(config)} has never run. Run the command in the folder where "
            "you enqueued, or set REDIS_URL."
        )


def server_name(config: Config) -> str:
    """The Redis that the settings name, without its password."""
    if config.redis_url:
        return without_password(config.redis_url.get_secret_value())
    return f"the local server in {config.redis_dir.absolute()}"


def without_password(url: str) -> str:
    """A URL that may be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
