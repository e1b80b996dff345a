"""Processes that are measured from outside (wall, CPU seconds, peak memory), and folders for them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import psutil

ROOT = Path(__file__).resolve().parents[1]
_SAMPLE_SECONDS = 0.05
"""Seconds between two samples of a process's memory."""

_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")
_opener = build_opener(ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used: seconds of CPU (user and system), bytes at its peak, and when it ended (Unix seconds)."""

    cpu: float
    peak: int
    started: float
    ended: float

    @property
    def wall(self) -> float:
        """Seconds from start to end."""
        return self.ended - self.started


class MeasuredProcess:
    """A process that runs and logs in a folder; `wait()` returns what it used."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: str = "log") -> None:
        self.log = folder / log
        self._command = " ".join(command)
        self.started = time.time()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.pid = self._process.pid
        self._peak = 0
        threading.Thread(target=self._watch_memory, daemon=True).start()
        atexit.register(self.kill)

    def cpu_so_far(self) -> float:
        """Seconds of CPU until now."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def wait(self, *, check: bool = True) -> Usage:
        """Wait for its end; RuntimeError with the end of its log when it fails."""
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if check and self._process.returncode != 0:
            raise RuntimeError(f"{self._command} failed:\n{self.log.read_text(errors='replace')[-3000:]}")
        return Usage(used.ru_utime + used.ru_stime, self._peak, self.started, time.time())

    def end(self) -> Usage:
        """Stop it as a user would, by SIGTERM, and wait."""
        self._process.terminate()
        return self.wait(check=False)

    def _watch_memory(self) -> None:
        """Not from `ru_maxrss`, which includes our own memory at the fork."""
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(self.pid)
            while self._process.returncode is None:
                self._peak = max(self._peak, _peak(self.pid) or process.memory_info().rss)
                time.sleep(_SAMPLE_SECONDS)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()


def _peak(pid: int) -> int:
    """The peak that Linux reports; 0 elsewhere, and when the process has ended."""
    status = Path(f"/proc/{pid}/status")
    found = _PEAK.search(status.read_bytes()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


class RunningServer:
    """The stand-in server, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        words = self._line().split()
        if len(words) != 3:
            raise RuntimeError("the server did not start")
        self.url, self.files_url = words[1:]
        self.pid = process.pid

    def on_first(self, call: Any) -> None:
        """Call once, in a thread, as soon as the first prediction is created."""

        def watch() -> None:
            if self._line():
                call()

        threading.Thread(target=watch, daemon=True).start()

    def report(self) -> dict[str, Any]:
        """Calls, bytes and delays so far."""
        with _opener.open(f"{self.url}/control/report", timeout=60) as answer:
            report: dict[str, Any] = json.load(answer)
        return report

    def _line(self) -> str:
        return self._process.stdout.readline() if self._process.stdout else ""


@contextlib.contextmanager
def start_server(flags: Sequence[str]) -> Iterator[RunningServer]:
    """Run a server on free ports until the block ends."""
    command = [sys.executable, "-m", "benchmarks.stand_in", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield RunningServer(process)
        finally:
            process.terminate()


@contextlib.contextmanager
def temporary_folder(*, big: bool = False) -> Iterator[Path]:
    """An empty folder. Only a big one is removed with the block, the others when the program ends.

    For minutes after many files were removed, ext4 takes up to a millisecond to create one (`recently_deleted`), which
    would slow down the next candidate.
    """
    folder = Path(tempfile.mkdtemp(dir=_root_folder()))
    try:
        yield folder
    finally:
        if big:
            shutil.rmtree(folder)


@cache
def _root_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
