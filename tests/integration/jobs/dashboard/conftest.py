from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import RECORD, Folder
from jobs.config import Config
from jobs.dashboard.index.indexes import Indexes
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch, Result

BATCH_ID = "5ab1e5"


class Night:
    """A batch named `night` in a folder and in Redis, whose prompts end as a test says."""

    def __init__(self, redis: Redis, folder: Folder) -> None:
        self._redis, self.folder = redis, folder
        folder.path.mkdir(parents=True)
        folder.manifest.write_text(json.dumps({"batch": "night", "id": BATCH_ID, "created_at": 1.0}))

    def write_rows(self, *rows: dict[str, Any]) -> None:
        """Replace the batch's own copy."""
        part = self.folder.path / "new"
        part.write_text("".join(json.dumps({"id": row["id"], "model": "a/b", **row}) + "\n" for row in rows))
        part.rename(self.folder.prompts)

    async def open(self, total: int) -> None:
        """Let Redis know the batch."""
        await Batches(self._redis).open(Batch("night", BATCH_ID, "api", 1.0, total, 0, 1.0))

    def write_record(self, index: int, prompt_id: str, status: str = "succeeded", **fields: Any) -> Path:
        """Write a prompt's record, as a commit does; returns its folder."""
        result = Result.model_validate(
            {"id": prompt_id, "index": index, "status": status, "model": "a/b", "input": {"prompt": prompt_id}} | fields
        )
        directory = self.folder.prompt(prompt_id)
        directory.mkdir()
        (directory / RECORD).write_text(result.model_dump_json())
        return directory

    async def end(self, index: int, prompt_id: str, status: str = "succeeded", **fields: Any) -> None:
        """Commit and settle a prompt."""
        self.write_record(index, prompt_id, status, **fields)
        await Batches(self._redis).settle("night", index, status, BATCH_ID)  # type: ignore[arg-type] # any outcome


@pytest.fixture
def night(config: Config, redis: Redis) -> Night:
    """A batch named `night` without rows."""
    return Night(redis, Folder(config.output_dir, "night"))


@pytest.fixture
def indexes(config: Config, redis: Redis, tmp_path: Path) -> Iterator[Indexes]:
    """The stores of a dashboard."""
    found = Indexes(tmp_path / ".dashboard", config.output_dir, redis)
    yield found
    found.close()
