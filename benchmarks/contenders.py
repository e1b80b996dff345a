"""Who takes part: the command of each, and what ours needs around it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.ours import installed
from benchmarks.processes import Measured, RunningServer, Used
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens: an empty folder, the prompts file in it, the server, the work."""

    folder: Path
    prompts: Path
    server: RunningServer
    workload: Workload

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
    """Runs all prompts."""

    def run(self, place: Place) -> Outcome:
        """Say what the client's process used."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of `benchmarks.clients`."""

    module: str
    in_flight: int = 100

    def run(self, place: Place) -> Outcome:
        """Run it to its end."""
        place.outputs.mkdir()
        command = [sys.executable, "-m", f"benchmarks.clients.{self.module}", str(place.prompts)]
        command += [f"--api={place.server.url}", f"--folder={place.outputs}", f"--in-flight={self.in_flight}"]
        used, before = _until_done(Measured(command, {}, place.folder), place.server)
        return Outcome(used, used.ended, before)


@dataclass(frozen=True, slots=True)
class Ours:
    """Ours: enqueued by a process of its own before, then one burst worker, which is what is measured."""

    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, place: Place) -> Outcome:
        """Enqueue, then run the worker to its end."""
        more = {**place.workload.settings, **self.settings}
        with installed(place.folder, place.server.url, more) as ours:
            enqueued = ours.enqueue(place.prompts)
            used, before = _until_done(ours.worker("--burst"), place.server)
            if not ours.batch.results.exists():
                raise RuntimeError(f"the batch was not finished: {ours.status()}")
        written = (ours.batch.results, ours.batch.gallery)  # the last that is written for the user
        return Outcome(used, max(path.stat().st_mtime for path in written), before, enqueued)


class Curl:
    """Nothing but the files, as fast as they come: `curl --parallel`."""

    def run(self, place: Place) -> Outcome:
        """Fetch all files of the workload."""
        place.outputs.mkdir()
        lines = []
        for number in range(place.workload.prompts):
            for file in range(place.workload.files):
                lines.append(f'url = "{place.server.files_url}/sim/{number}/{file}/output.png"')
                lines.append(f'output = "{place.outputs}/output_{number}_{file}.png"')
        config = place.folder / "curl.config"
        config.write_text("\n".join(lines))
        command = ["curl", "--silent", "--fail", "--noproxy", "*", "--parallel", "--parallel-max", "16"]
        used = Measured([*command, "--config", str(config)], {}, place.folder).wait()
        return Outcome(used, used.ended, 0.0)


def _until_done(process: Measured, server: RunningServer) -> tuple[Used, float]:
    """Wait for a process; also says what CPU it had used when it created its first prediction."""
    before: list[float] = []
    server.on_first(lambda: before.append(process.cpu_so_far()))
    try:
        return process.wait(), before[0] if before else 0.0
    finally:
        process.kill()


CONTENDERS: dict[str, Contender] = {
    "ours": Ours(),
    "ours-100": Ours({"BATCH_MAX_IN_FLIGHT": "100"}),
    "ours-nofsync": Ours({"BATCH_FSYNC": "false"}),
    "ours-100-nofsync": Ours({"BATCH_MAX_IN_FLIGHT": "100", "BATCH_FSYNC": "false"}),
    "official": Peer("official"),
    "httpx": Peer("plain_httpx"),
    "aiohttp": Peer("plain_aiohttp"),
    "curl": Curl(),
}
