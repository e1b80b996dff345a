"""The settings of ours in a run: the defaults, whatever the user's environment and .env say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.processes import RunningServer
from jobs.config import Config

UNLIMITED = "1000000"
"""Creates and reads a minute where the server has no limit: more than any machine reaches."""


def settings(folder: Path, server: RunningServer, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of producer and worker; `more` goes before everything."""
    names = Config.model_fields.keys() - {"replicate_api_token", "replicate_base_url", "redis_url", "model"}
    return {
        **{f"BATCH_{name.upper()}": str(Config.model_fields[name].default) for name in names},
        "REPLICATE_API_TOKEN": "bench",
        "REPLICATE_BASE_URL": server.url,
        "REDIS_URL": "",
        "BATCH_REDIS_DIR": str(folder / "redis"),
        "BATCH_OUTPUT_DIR": str(folder / "outputs"),
        "BATCH_MODEL": "bench/model",
        "BATCH_OUTPUT_HOSTS": "127.0.0.1",
        "BATCH_CREATES_PER_MINUTE": UNLIMITED,
        "BATCH_READS_PER_MINUTE": UNLIMITED,
        **more,
    }
