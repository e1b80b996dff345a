"""The candidates of a comparison: the command of each, and what ours needs to run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.installation import install
from benchmarks.processes import MeasuredProcess, RunningServer, Usage
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run gets: an empty folder, the prompts file in it, the server, the workload."""

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
    """What a candidate's process used; `finished` in Unix seconds, `before` is the CPU until its first create."""

    used: Usage
    finished: float
    before: float
    enqueued: Usage | None = None


class Candidate(Protocol):
    """Runs all prompts."""

    def run(self, context: RunContext) -> Outcome:
        """Run all prompts and return what the process used."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of `benchmarks.clients`."""

    module: str
    in_flight: int = 100

    def run(self, context: RunContext) -> Outcome:
        """Run it to its end."""
        context.outputs.mkdir()
        command = [sys.executable, "-m", f"benchmarks.clients.{self.module}", str(context.prompts)]
        command += [f"--api={context.server.url}", f"--folder={context.outputs}", f"--in-flight={self.in_flight}"]
        used, before = _wait_until_done(MeasuredProcess(command, {}, context.folder), context.server)
        return Outcome(used, used.ended, before)


@dataclass(frozen=True, slots=True)
class Ours:
    """Our project: a process enqueues the prompts, then one burst worker is measured."""

    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, context: RunContext) -> Outcome:
        """Enqueue, then run the worker to its end."""
        more = {**context.workload.settings, **self.settings}
        with install(context.folder, context.server.url, more) as ours:
            enqueued = ours.enqueue(context.prompts)
            used, before = _wait_until_done(ours.worker("--burst"), context.server)
            if not ours.batch.results.exists():
                raise RuntimeError(f"the batch was not finished: {ours.status()}")
        written = (ours.batch.results, ours.batch.gallery)  # the last files that are written for the user
        return Outcome(used, max(path.stat().st_mtime for path in written), before, enqueued)


class Curl:
    """Only the files, as fast as possible: `curl --parallel`."""

    def run(self, context: RunContext) -> Outcome:
        """Fetch all files of the workload."""
        context.outputs.mkdir()
        lines = []
        for number in range(context.workload.prompts):
            for file in range(context.workload.files):
                lines.append(f'url = "{context.server.files_url}/sim/{number}/{file}/output.png"')
                lines.append(f'output = "{context.outputs}/output_{number}_{file}.png"')
        config = context.folder / "curl.config"
        config.write_text("\n".join(lines))
        command = ["curl", "--silent", "--fail", "--noproxy", "*", "--parallel", "--parallel-max", "16"]
        used = MeasuredProcess([*command, "--config", str(config)], {}, context.folder).wait()
        return Outcome(used, used.ended, 0.0)


def _wait_until_done(process: MeasuredProcess, server: RunningServer) -> tuple[Usage, float]:
    """Wait for a process; also return the CPU that it had used at its first create."""
    before: list[float] = []
    server.on_first(lambda: before.append(process.cpu_so_far()))
    try:
        return process.wait(), before[0] if before else 0.0
    finally:
        process.kill()


CANDIDATES: dict[str, Candidate] = {
    "ours": Ours(),
    "ours-100": Ours({"BATCH_MAX_IN_FLIGHT": "100"}),
    "ours-nofsync": Ours({"BATCH_FSYNC": "false"}),
    "ours-100-nofsync": Ours({"BATCH_MAX_IN_FLIGHT": "100", "BATCH_FSYNC": "false"}),
    "official": Peer("official"),
    "httpx": Peer("plain_httpx"),
    "aiohttp": Peer("plain_aiohttp"),
    "curl": Curl(),
}
