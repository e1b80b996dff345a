"""The environment of the demo: free ports, settings that ignore the user's own, and a batch that starts empty."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.config import Config
from jobs.redis_client.embedded import ensure_running
from simulator.process import RunningSimulator

PORT = 5555
"""Queue, limits and ledger belong to an API host: by the same port a second demo finds those of the first."""


def find_free_port(port: int) -> int:
    """The first of port, port + 100 … that is free and the next one, the file host's, too; 0 (any) when none is.

    Always the same order, so that the next demo beside the same neighbours comes to the same port.
    """
    return next((number for number in range(port, min(port + 1000, 65_535), 100) if _is_free(number)), 0)


def _is_free(port: int) -> bool:
    try:
        for number in (port, port + 1):
            socket.create_server(("127.0.0.1", number)).close()
    except OSError:
        return False
    return True


def batch_name(simulator: RunningSimulator) -> str:
    """`demo`, or another name with another port, so that a batch always belongs to one host."""
    port = urlsplit(simulator.url).port
    return "demo" if port == PORT else f"demo-{port}"


def environment(simulator: RunningSimulator) -> dict[str, str]:
    """The environment of the commands: every setting that has a default, so that the user's own has no effect."""
    defaults = {name: default(name) for name in Config.model_fields if name != "replicate_base_url"}
    return {
        **os.environ,
        **{f"BATCH_{name.upper()}": str(value) for name, value in defaults.items() if value is not None},
        "REPLICATE_API_TOKEN": "r8_demo",
        "REPLICATE_BASE_URL": simulator.url,
        "BATCH_OUTPUT_HOSTS": urlsplit(simulator.files_url).hostname or "",
        "REDIS_URL": f"unix://{ensure_running(default('redis_dir'))}",
        "no_proxy": "*",  # everything is on this machine; in small letters it goes before NO_PROXY
    }


def default(setting: str) -> Any:
    """The default of a setting, whatever the environment says."""
    return Config.model_fields[setting].default


def is_finished(folder: Folder) -> bool:
    """Whether the batch has the results of all its prompts."""
    if folder.batch_id() is None or not folder.results.exists():
        return False
    with folder.results.open("rb") as lines:
        return sum(1 for _ in lines) == sum(1 for _ in read_copy(folder))


def remove_interrupted(folder: Folder, env: Mapping[str, str]) -> bool:
    """Remove an interrupted demo, whose predictions ended with its simulator. False when there was none."""
    command = [sys.executable, "-m", "jobs", "delete", folder.batch, "--force"]
    done = subprocess.run(command, env=env, capture_output=True, check=False)  # noqa: S603 - our own command
    there = folder.path.exists()
    if there:
        shutil.rmtree(folder.path)
    return there or done.returncode == 0
