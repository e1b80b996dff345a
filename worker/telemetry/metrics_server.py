"""Serving the metrics: from a thread, so that they can be read even while the event loop hangs."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from worker.telemetry.metrics import REGISTRY

logger = logging.getLogger(__name__)

PORTS = 10
"""How many ports are tried, for the workers of one machine that have the same setting."""


def start_metrics_server(host: str, port: int) -> MetricsServer | None:
    """Serve the metrics from now on; None when they cannot be served, which is logged.

    Port 0 is any that is free; another one that is in use is skipped.
    """
    try:
        server = _bind(host, port)
    except OSError as error:
        why = error.strerror or error
        logger.warning("! no metrics: BATCH_METRICS_HOST=%s, BATCH_METRICS_PORT=%d: %s", host, port, why)
        return None
    if port not in (0, server.server_port):
        logger.info("metrics: port %d is in use, so %d is taken", port, server.server_port)
    logger.info("metrics: %s", server.url, extra={"event": "metrics_served"})
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _bind(host: str, port: int) -> MetricsServer:
    """Listen on the first port of the range that is free; OSError."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    ports = range(port, min(port + PORTS, 65_536))
    for one in ports:
        try:
            return MetricsServer(host, one, family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"the ports {port} to {ports[-1]} are all in use")


class _Handler(WSGIRequestHandler):
    timeout = 10  # a client that sends nothing holds a thread

    def log_message(self, *_: Any) -> None:
        """Keep the log for what the worker does."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own."""

    daemon_threads = True

    def __init__(self, host: str, port: int, family: socket.AddressFamily) -> None:
        self.address_family = family
        super().__init__((host, port), _Handler)
        self.set_app(make_wsgi_app(REGISTRY))

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/metrics"

    def stop(self) -> None:
        """Stop within half a second, for which no worker waits."""
        threading.Thread(target=self._stop, name="metrics-stop", daemon=True).start()

    def _stop(self) -> None:
        self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without asking for the host's name, as http.server does: a resolver may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()
