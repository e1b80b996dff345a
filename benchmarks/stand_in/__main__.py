"""`python -m benchmarks.stand_in`: the server.

It prints `server API-URL FILES-URL` when it listens, `first` at the first create, and stops when its standard input
ends. `GET /control/report`, which does not count, returns calls, bytes and delays.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import resource
import socket
import statistics
import sys
import time
from random import Random
from typing import Any

from benchmarks.stand_in.api import Account, Api, RunTime
from benchmarks.stand_in.files import generate_files
from benchmarks.stand_in.http1 import Answer, HttpProtocol, Request


class Server:
    """API and file host, each on a port of its own."""

    def __init__(self, flags: argparse.Namespace, api_port: int, files_port: int) -> None:
        self._account = Account(f"http://127.0.0.1:{files_port}", flags.files)
        self._api = Api(f"http://127.0.0.1:{api_port}", self._account, run_time(flags.model))
        self._files = generate_files(flags.bytes)
        self._files_asked = self._bytes_sent = 0
        self._first: float | None = None
        self._last = 0.0

    def api(self, request: Request) -> Answer:
        """Answer a call of the API."""
        if request.target == "/control/report":
            return Answer(json.dumps(self._report()).encode())
        self._last = time.time()
        answer = self._api.answer(request)
        if self._first is None and self._account.all:
            self._first = self._account.all[0].created
            print("first", flush=True)
        return answer

    def files(self, request: Request) -> Answer:
        """Answer a request for an output file."""
        self._last = time.time()
        _, _, number, file, _ = request.target.split("/", 4)
        if int(number) < len(self._account.all) and (prediction := self._account.all[int(number)]).fetched is None:
            prediction.fetched = self._last
        answer = self._files[(int(number) + int(file)) % len(self._files)].answer(request)
        self._files_asked += 1
        self._bytes_sent += len(answer.body)
        return answer

    def _report(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        delays = [one.fetched - one.ends for one in self._account.all if one.fetched is not None]
        return {
            "counts": {**self._api.counts, "file": self._files_asked},
            "created": len(self._account.all),
            "bytes": self._bytes_sent,
            "first": self._first,
            "last": self._last,
            "delay_mean": statistics.fmean(delays) if delays else None,
            "delay_worst": max(delays, default=None),
            "cpu": used.ru_utime + used.ru_stime,
        }


def run_time(model: str) -> RunTime:
    """`instant`, `fixed:2` or `log-normal:6` (the median in seconds, sigma 0.5); always the same draws."""
    kind, _, seconds = model.partition(":")
    match kind:
        case "instant":
            return lambda: 0.0
        case "fixed":
            return lambda: float(seconds)
        case "log-normal":
            random = Random(1)
            return lambda: random.lognormvariate(math.log(float(seconds)), 0.5)
    raise ValueError(f"no such model: {model}")


async def serve(flags: argparse.Namespace) -> None:
    """Listen until standard input ends."""
    loop = asyncio.get_running_loop()
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2)]
    ports = [one.getsockname()[1] for one in sockets]
    server = Server(flags, *ports)
    for sock, handler in zip(sockets, (server.api, server.files), strict=True):
        await loop.create_server(lambda handler=handler: HttpProtocol(handler), sock=sock)  # type: ignore[misc]
    print("server", *(f"http://127.0.0.1:{port}" for port in ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Read the flags and serve."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.stand_in")
    flags.add_argument("--model", default="instant", help=run_time.__doc__)
    flags.add_argument("--files", type=int, default=1, help="output files of a prediction")
    flags.add_argument("--bytes", type=int, default=102_400, help="of each file")
    asyncio.run(serve(flags.parse_args()))


if __name__ == "__main__":
    main()
