"""Who takes part: the command of each, and what ours needs around it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Measured, RunningServer, Used
from benchmarks.settings import settings
from jobs.folder import Folder

PYTHON = sys.executable
NAME = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens: an empty folder, the prompts file in it, the server."""

    folder: Path
    prompts: Path
    server: RunningServer

    @property
    def outputs(self) -> Path:
        """Where outputs go."""
        return self.folder / "outputs"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contender's process used; `finished` in Unix seconds, `before` is the CPU of its start-up."""

    used: Used
    finished: float
    before: float
    enqueued: Used | None = None


class Contender(Protocol):
    """Works off the prompts."""

    def run(self, place: Place) -> Outcome:
        """Say what the client's process used."""


def until_done(process: Measured, server: RunningServer) -> tuple[Used, float]:
    """Wait for a process; also says what CPU it had used when it created its first prediction."""
    before: list[float] = []
    server.on_first(lambda: before.append(process.cpu_so_far()))
    try:
        return process.wait(), before[0] if before else 0.0
    finally:
        process.kill()


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of `benchmarks.clients`."""

    module: str
    in_flight: int = 100

    def run(self, place: Place) -> Outcome:
        """Run it to its end."""
        place.outputs.mkdir()
        command = [PYTHON, "-m", f"benchmarks.clients.{self.module}", str(place.prompts), f"--api={place.server.url}"]
        command += [f"--folder={place.outputs}", f"--in-flight={self.in_flight}"]
        used, before = until_done(Measured(command, {}, place.folder), place.server)
        return Outcome(used, used.ended, before)


@dataclass(frozen=True, slots=True)
class Ours:
    """Ours: enqueued by a process of its own before, then one burst worker, which is what is measured."""

    settings: Mapping[str, str]

    def run(self, place: Place) -> Outcome:
        """Enqueue, then run the worker to its end."""
        environment = settings(place.folder, place.server, self.settings)
        enqueue = [PYTHON, "-m", "jobs", "enqueue", str(place.prompts), f"--name={NAME}"]
        try:
            enqueued = Measured(enqueue, environment, place.folder).wait()
            worker = Measured([PYTHON, "-m", "arq", "worker.Settings", "--burst"], environment, place.folder)
            used, before = until_done(worker, place.server)
            finished = _finished(place)
        finally:
            Measured([PYTHON, "-m", "jobs", "redis-stop"], environment, place.folder).wait()
        return Outcome(used, finished, before, enqueued)


def _finished(place: Place) -> float:
    """When the results were whole: the last thing written for the user."""
    folder = Folder(place.outputs, NAME)
    if not folder.results.exists():
        raise RuntimeError(f"the batch was not finished:\n{(place.folder / 'log').read_text(errors='replace')[-3000:]}")
    return max(folder.results.stat().st_mtime, folder.gallery.stat().st_mtime)


CONTENDERS: dict[str, Contender] = {
    "ours": Ours({}),
    "ours-100": Ours({"BATCH_MAX_IN_FLIGHT": "100"}),
    "ours-nofsync": Ours({"BATCH_FSYNC": "false"}),
    "ours-100-nofsync": Ours({"BATCH_MAX_IN_FLIGHT": "100", "BATCH_FSYNC": "false"}),
    "official": Peer("official"),
    "httpx": Peer("plain_httpx"),
    "aiohttp": Peer("plain_aiohttp"),
}
