"""A simulator in a process of its own, for tests and the demo: `with running(seed=1) as simulator: …`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

_ROOT = Path(__file__).resolve().parents[1]
_opener = build_opener(ProxyHandler({}))


class RunningSimulator:
    """A simulator that runs: `url` is the API's base, `files_url` the base of the output files."""

    def __init__(self, url: str, files_url: str, pid: int) -> None:
        self.url, self.files_url, self.pid = url, files_url, pid

    def control(self, **faults: Any) -> dict[str, Any]:
        """Set faults, each a rate (0 to 1) or `{"rate"|"next": …, options}`; other faults stay as they are."""
        return self._call("POST", "faults", faults)

    def clear(self) -> None:
        """Disarm all faults, including those of the flags."""
        self._call("DELETE", "faults")

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change settings (`predict_min=0`, `credit=3`, …) until the next reset; returns all of them."""
        return self._call("POST", "settings", values)

    def advance(self, seconds: float) -> None:
        """Move the simulator's clock forward: deadlines, retention and lags pass without waiting."""
        self._call("POST", "clock", {"advance": seconds})

    def ledger(self, *, summary: bool = False) -> dict[str, Any]:
        """The ledger so far; a summary leaves out the list of creates."""
        return self._call("GET", "ledger?summary=1" if summary else "ledger")

    def publish(self, model: str) -> str:
        """Publish a new version of a model; returns its id."""
        return str(self._call("POST", "publish", {"model": model})["version"])

    def reset(self) -> None:
        """Forget everything; settings and faults are again those of the flags."""
        self._call("POST", "reset")

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/control/{path}", data, {"content-type": "application/json"}, method=method)  # noqa: S310  # our own http URL
        with _opener.open(request, timeout=30) as answer:
            result: dict[str, Any] = json.load(answer)
        return result


@contextlib.contextmanager
def running(*arguments: str, **flags: Any) -> Iterator[RunningSimulator]:
    """Start `python -m simulator` on free ports with flags (`limit_creates=60`, `loose=0`); end it after.

    It also ends when this process dies. Raises RuntimeError when it does not start.
    """
    command = [sys.executable, "-m", "simulator", "--port", "0", "--until-end-of-input", *arguments]
    command += [_flag(name, value) for name, value in flags.items() if value is not None]
    with subprocess.Popen(  # noqa: S603  # our own module with our own flags
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _announced(process)
        finally:
            _end(process)


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={value}"


def _announced(process: subprocess.Popen[str]) -> RunningSimulator:
    line = process.stdout.readline() if process.stdout else ""
    words = line.split()
    if len(words) != 4 or words[0] != "simulator":
        raise RuntimeError(f"the simulator did not start: {line!r}")
    return RunningSimulator(words[1], words[3], process.pid)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
