"""A worker whose disk is full: a small file system of its own, in a user and mount namespace."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

BECOME = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
FILL = """
mount -t tmpfs -o size=1m none "$0" && "$1" -m jobs enqueue "$2" && head -c 2m /dev/zero > "$0/filler"
exec "$1" -m arq worker.Settings
"""


def may_mount(place: Path) -> bool:
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", str(place)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


async def test_what_ends_while_the_disk_is_full_is_saved_when_there_is_room(
    night: Any, nursery: Any, child_env: dict[str, str], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    outputs = night.config.output_dir
    outputs.mkdir()
    if not may_mount(outputs):
        pytest.skip("needs a file system of its own: unshare -Urm mount")
    file = tmp_path / "night.jsonl"
    row = {"model": "simulator/image", "input": {"prompt": "cat", "width": 16, "height": 16, "output_format": "png"}}
    file.write_text("".join(json.dumps({"id": f"p{n}", **row}) + "\n" for n in range(5)))
    env = child_env | {"BATCH_CREATES_PER_MINUTE": "60000", "BATCH_POLL_INTERVAL": "0.1"}
    script = ("sh", "-c", FILL, str(outputs), sys.executable, str(file))
    worker = nursery.start("-c", BECOME, "unshare", "-Urm", *script, env=env)
    await eventually(lambda: "cannot be saved, retrying" in worker.log())
    status = night.status()
    assert "the disk is full" in status["reason"]
    assert status["succeeded"] == 0
    inside = Path(f"/proc/{worker.process.pid}/root{outputs}")
    (inside / "filler").unlink()
    await eventually(lambda: night.status()["state"] == "finished")
    seen = replace(night, config=night.config.model_copy(update={"output_dir": inside}))
    assert {result["status"] for result in seen.check()} == {"succeeded"}
    seen.paid_once()
    worker.terminate()
    assert worker.wait() == 0
