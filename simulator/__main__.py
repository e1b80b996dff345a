"""`python -m simulator --port 5555`: the first line on standard output says where it listens."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys

from simulator.answers import Problem
from simulator.app import Application
from simulator.faults import FAULTS, from_flag
from simulator.models import registry
from simulator.server import listen, serve
from simulator.settings import add_flags, from_flags
from simulator.simulation import Simulation


def parser() -> argparse.ArgumentParser:
    """All flags: where to listen, faults from the start, and one for each setting."""
    flags = argparse.ArgumentParser(
        prog="python -m simulator",
        description="A stand-in for Replicate's HTTP API.",
        epilog=f"{registry.__doc__}\nFaults: {', '.join(FAULTS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    flags.add_argument("--port", type=int, default=5555, help="port of the API, 0 = a free one (default: %(default)s)")
    flags.add_argument(
        "--files-host", default="localhost", help="host name in the URLs of outputs (default: %(default)s)"
    )
    flags.add_argument(
        "--files-port", type=int, help="port of the file host (default: a free one if --port is 0, else port + 1)"
    )
    flags.add_argument(
        "--fault", action="append", default=[], metavar="NAME=RATE", help="a fault from the start; repeatable"
    )
    flags.add_argument("--until-end-of-input", action="store_true", help="stop when standard input ends")
    add_flags(flags)
    return flags


def main(argv: list[str] | None = None) -> None:
    """Parse the flags, listen, say where, serve."""
    flags = parser()
    arguments = flags.parse_args(argv)
    try:
        simulation = Simulation(from_flags(arguments), dict(from_flag(text) for text in arguments.fault))
    except (Problem, ValueError) as error:
        flags.error(str(error))
    files_port = arguments.files_port
    if files_port is None:
        files_port = arguments.port + 1 if arguments.port else 0
    sockets = [listen(arguments.host, port) for port in (arguments.port, files_port)]
    api_port, files_port = (each.getsockname()[1] for each in sockets)
    files_url = f"http://{arguments.files_host}:{files_port}"
    shown = "127.0.0.1" if arguments.host == "0.0.0.0" else arguments.host  # noqa: S104  # compared, not bound
    sys.stdout.write(f"simulator http://{shown}:{api_port} files {files_url}\n")
    sys.stdout.flush()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    app = Application(simulation, files_url=files_url, files_port=files_port)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(app, sockets, until_end_of_input=arguments.until_end_of_input))


if __name__ == "__main__":
    main()
