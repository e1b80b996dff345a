"""An installation of this project as a user has it: a Redis server, a folder for outputs, commands and workers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import ROOT, MeasuredProcess, Usage
from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.redis_client import embedded

UNLIMITED = "1000000"
"""Creates and reads a minute for a server without limits: more than any machine reaches."""

NAME = "bench"


@dataclass(frozen=True, slots=True)
class Installation:
    """The project in a folder; `environment` has all settings, so that the user's own and .env have no effect."""

    folder: Path
    environment: Mapping[str, str]

    def enqueue(self, prompts: Path) -> Usage:
        """Enqueue a file as the batch `bench`."""
        return self.command("enqueue", str(prompts), f"--name={NAME}")

    def check(self, prompts: Path) -> Usage:
        """Check the rows of a file against their model, and enqueue nothing."""
        checking = replace(self, environment={**self.environment, "BATCH_MODEL_CHECK": "true"})
        return checking.command("enqueue", str(prompts), "--check")

    def command(self, *words: str) -> Usage:
        """Run `python -m jobs …` to its end."""
        return MeasuredProcess([sys.executable, "-m", "jobs", *words], self.environment, self.folder).wait()

    def worker(self, *flags: str, log: str = "log") -> MeasuredProcess:
        """Start a worker."""
        return MeasuredProcess(
            [sys.executable, "-m", "arq", "worker.Settings", *flags], self.environment, self.folder, log
        )

    def status(self) -> dict[str, Any]:
        """What `status --json` says of the batch."""
        command = [sys.executable, "-m", "jobs", "status", NAME, "--json"]
        environment = {**self.environment, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, check=True)
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    @property
    def batch(self) -> Folder:
        """The batch's folder."""
        return Folder(self.folder / "outputs", NAME)

    @property
    def redis_memory(self) -> int:
        """Resident bytes of the Redis server."""
        pid = (self.folder / "redis" / embedded.PID).read_text()
        resident: int = psutil.Process(int(pid)).memory_info().rss
        return resident


@contextlib.contextmanager
def install(folder: Path, api: str, more: Mapping[str, str]) -> Iterator[Installation]:
    """Run a Redis server of its own until the block ends; `more` are settings that differ from the defaults."""
    directory = folder / "redis"
    try:
        url = f"unix://{embedded.ensure_running(directory)}"
        yield Installation(folder, {**_defaults(), **_environment(folder, api), "REDIS_URL": url, **more})
    finally:
        embedded.stop(directory)


def _defaults() -> dict[str, str]:
    names = Config.model_fields.keys() - {"replicate_api_token", "replicate_base_url", "redis_url", "model"}
    defaults = {name: Config.model_fields[name].default for name in names}
    return {f"BATCH_{name.upper()}": str(value) for name, value in defaults.items() if value is not None}


def _environment(folder: Path, api: str) -> dict[str, str]:
    return {
        "REPLICATE_API_TOKEN": "bench",
        "REPLICATE_BASE_URL": api,
        "BATCH_REDIS_DIR": str(folder / "redis"),
        "BATCH_OUTPUT_DIR": str(folder / "outputs"),
        "BATCH_MODEL": "bench/model",
        "BATCH_MODEL_CHECK": "false",
        "BATCH_OUTPUT_HOSTS": "127.0.0.1,localhost",
        "BATCH_CREATES_PER_MINUTE": UNLIMITED,
        "BATCH_READS_PER_MINUTE": UNLIMITED,
    }
