"""Serving the dashboard: where it listens, and who may reach it."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import uvicorn

from jobs.config import Config
from jobs.dashboard.app import create_app
from jobs.dashboard.live import Feeds
from jobs.dashboard.pages import Dashboard
from jobs.dashboard.security import Access, is_loopback
from jobs.errors import ConfigError
from jobs.logs.setup import set_up_logs
from jobs.redis_client.client import connect, redis_url

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
SHORTEST_TOKEN = 16
STOP_SECONDS = 1
"""How long a stop waits for answers; events never end by themselves."""


def access_for(config: Config, host: str, *, read_only: bool) -> Access:
    """Who may reach a dashboard that listens on `host`; ConfigError where everybody in the network could."""
    token = config.dashboard_token.get_secret_value() if config.dashboard_token else None
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"BATCH_DASHBOARD_TOKEN is too short: it needs at least {SHORTEST_TOKEN} characters")
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines reach the dashboard: set BATCH_DASHBOARD_TOKEN, for example to the "
            "output of: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    hosts = frozenset() if token else frozenset({*LOCAL_HOSTS, host.strip("[]")})
    return Access(hosts, token, read_only)


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on, port 0 for any; ConfigError when it cannot be had."""
    host = host.strip("[]")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: {error.strerror or error}; --port 0 takes any that is free"
        ) from error


async def serve(config: Config, listener: socket.socket, access: Access) -> None:
    """Serve until a signal stops it."""
    set_up_logs(config)
    redis = connect(redis_url(config))
    try:
        await create_server(Dashboard(config, redis, access)).serve([listener])
    finally:
        listener.close()
        await redis.aclose()


class Server(uvicorn.Server):
    """A server whose events end when it stops, and whose process then ends as after any other command."""

    def __init__(self, settings: uvicorn.Config, feeds: Feeds) -> None:
        super().__init__(settings)
        self._feeds = feeds

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Stop; unlike uvicorn, do not raise the signal again afterwards. A second Ctrl-C does not wait for answers."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the events, then all connections."""
        await self._feeds.close()
        await super().shutdown(sockets)


def create_server(dashboard: Dashboard) -> Server:
    """The server of a dashboard; `should_exit` stops it."""
    app = create_app(dashboard)
    settings = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return Server(settings, app.state.feeds)
