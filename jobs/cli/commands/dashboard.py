"""`dashboard`: pages in a browser."""

from __future__ import annotations

import asyncio
import socket
from typing import Annotated

import typer

from jobs.config import Config
from jobs.dashboard.server import access_for, listen, serve
from jobs.terminal import print_lines


def dashboard(
    *,
    host: Annotated[str, typer.Option(help="Where to listen; other than this machine needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65_535)] = 8787,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show all, and let nobody change it.")] = False,
) -> None:
    """Serve pages that show and steer batches as they run."""
    config = Config.load()
    access, listener = access_for(config, host, read_only=read_only), listen(host, port)
    print_lines([f"The dashboard is at {address(host, listener.getsockname()[1])} until Ctrl-C."])
    asyncio.run(serve(config, listener, access))


def address(host: str, port: int) -> str:
    """Where a browser finds what listens there; for all addresses of the machine, here and from others."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - it is compared
        return f"http://127.0.0.1:{port}/, for other machines at http://{socket.gethostname()}:{port}/,"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
