"""Real processes without their start: most of the CPU time of `python -m jobs` is spent on imports.

A `ForkServer` imports the product once. Each child is forked from it and runs its module as Python would, with its own
arguments, environment, directory and streams, and ends as any Python ends. Where a start itself is tested, and on
macOS, where its frameworks break in a forked child, Python is started instead.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO, cast

from tests.spare_processes import with_spares

ROOT = Path(__file__).parent.parent
CAN_FORK = sys.platform == "linux"
PRELOADED = ("arq.cli", "rich.progress")
PACKAGES = ("jobs", "worker")
LOADED_BY_THE_CHILD = ("__main__", "worker.settings")
"""What Python runs as a program, and what reads the settings when it is imported."""
LARGEST = 1 << 20

Launch = Callable[[Sequence[str], dict[str, str], Path, Sequence[Any]], Any]
"""`launch(("-m", "jobs"), env, directory, (stdin, stdout, stderr))` starts Python, or a child that becomes it."""


def start_python(
    command: Sequence[str], env: dict[str, str], cwd: Path, streams: Sequence[Any], within: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start Python itself, `within` the command of another program if one is given."""
    stdin, stdout, stderr = streams
    words = [*within, sys.executable, *command]
    return subprocess.Popen(words, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)


class ForkedProcess:
    """A child of the server, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, report: socket.socket) -> None:
        self._report = report
        self.pid = int(report.recv(32))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._report.settimeout(timeout)
            try:
                self.returncode = int(self._report.recv(32))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts Python programs: `-m module`, `-c program` or a file, with arguments."""

    def __init__(self, env: dict[str, str]) -> None:
        self._socket, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            command = [sys.executable, "-m", "tests.fork_server", str(its_end.fileno())]
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=ROOT,
                pass_fds=[its_end.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, command: Sequence[str], env: dict[str, str], cwd: Path, streams: Sequence[Any]) -> ForkedProcess:
        order = json.dumps({"command": list(command), "env": env, "cwd": str(cwd)}).encode()
        report, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            socket.send_fds(self._socket, [order], [*(stream.fileno() for stream in streams), its_end.fileno()])
        return ForkedProcess(report)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(LOADED_BY_THE_CHILD):
                importlib.import_module(module.name)
    gc.freeze()


def serve(orders: socket.socket) -> dict[str, Any] | None:
    """Fork a child for each order and return the order in it; return None in the server, when nobody orders more."""
    with selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                if key.data:
                    selector.unregister(key.fd)
                    report_end(key.fd, *key.data)
                    continue
                data, descriptors, *_ = socket.recv_fds(orders, LARGEST, 4)
                if not data:
                    selector.unregister(orders)
                elif child := fork_and_report(descriptors):
                    selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, descriptors[-1]))
                else:
                    orders.detach()
                    order: dict[str, Any] = json.loads(data)
                    return order
    return None


def fork_and_report(descriptors: list[int]) -> int:
    """Report the child's id and return it in the server; return 0 in the child, whose only files are these streams."""
    *streams, report = descriptors
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.closerange(len(streams), os.sysconf("SC_OPEN_MAX"))
    else:
        for descriptor in streams:
            os.close(descriptor)
        with suppress(BrokenPipeError):
            os.write(report, str(pid).encode())
    return pid


def report_end(watched: int, pid: int, report: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):
        os.write(report, str(code).encode())
    for descriptor in (watched, report):
        os.close(descriptor)


def become(command: list[str], env: dict[str, str], cwd: str) -> None:
    """Run a program in this process as `python` would with this command."""
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = cwd
    unbuffered = bool(env.get("PYTHONUNBUFFERED"))
    sys.stdout = standard_stream(1, unbuffered=unbuffered, errors="strict")
    sys.stderr = standard_stream(2, unbuffered=unbuffered, errors="backslashreplace")
    match command:
        case "-m", module, *arguments:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case "-c", program, *arguments:
            sys.argv = ["-c", *arguments]
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
        case file, *arguments:
            sys.argv = [file, *arguments]
            runpy.run_path(file, run_name="__main__")


def standard_stream(number: int, *, unbuffered: bool, errors: str) -> TextIO:
    """What Python makes of descriptor 1 or 2; the server's own knows another file, which may have been seekable."""
    if not unbuffered:
        return os.fdopen(number, "w", errors=errors, closefd=False)
    return TextIOWrapper(cast("BinaryIO", FileIO(number, "w", closefd=False)), errors=errors, write_through=True)


def end(code: int) -> NoReturn:
    """End as Python does, but leave the memory to the system: to take it apart takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            sys.exit(code)  # Python says it in its own way, and with its own exit code
    os._exit(code)


if __name__ == "__main__":
    preload()
    found = serve(socket.socket(fileno=int(sys.argv[1])))
    if found:
        try:
            become(**with_spares(found, PACKAGES))
        except SystemExit as stop:
            if not isinstance(stop.code, int | None):
                raise
            end(stop.code or 0)
        end(0)
