"""One uvicorn server on two sockets: the API and the file host; and a way to cut a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence

import uvicorn
from starlette.types import ASGIApp, Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Wire(H11Protocol):
    """HTTP/1.1 that shows its transport to the app, as `scope["state"]["transport"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself
        """Store the transport in the state that uvicorn copies into each request's scope."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


async def wait_for_disconnect(receive: Receive, seconds: float | None = None) -> None:
    """Wait until the client has disconnected, at most for the given seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass


async def reset(scope: Scope, receive: Receive) -> None:
    """Cut the connection at once; the client sees a reset."""
    transport: asyncio.Transport = scope["state"]["transport"]
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
    await wait_for_disconnect(receive)


async def close(scope: Scope, receive: Receive) -> None:
    """Send what was written, then close; the client sees an early end."""
    scope["state"]["transport"].close()
    await wait_for_disconnect(receive)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 means a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio turns Nagle's algorithm off; without, each answer would take 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    bound.listen(2048)
    bound.setblocking(False)  # noqa: FBT003  # the standard library takes it so
    return bound


def server(app: ASGIApp) -> uvicorn.Server:
    """The server for `serve(…)`; it logs nothing and does not wait long for open calls when it ends."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Wire,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )


async def serve(app: ASGIApp, sockets: Sequence[socket.socket], *, until_end_of_input: bool) -> None:
    """Run until SIGTERM or SIGINT or, when asked, until standard input ends (the parent died)."""
    running = server(app)
    if until_end_of_input:
        pending = asyncio.get_running_loop()

        def stop() -> None:
            pending.remove_reader(0)
            running.should_exit = True

        pending.add_reader(0, stop)
    await running.serve(list(sockets))
