"""Ports on which nobody listens."""

from __future__ import annotations

import contextlib
import random
import socket

PORTS = range(20_000, 32_000)
"""Below those that systems hand out by themselves, so that a server gets its port again."""


def free_port() -> int:
    """A port for a server that may go and come back."""
    while True:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
