"""Prompts of batch "night" for a worker to process, one at a time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jobs.input_files.reference import FileReference
from jobs.wire import Prompt, Result, Shard
from worker.context import Context, Work

INPUT = {"prompt": "cat", "width": 16, "height": 16, "output_format": "png"}
CAT = Prompt(0, "cat", "simulator/image", INPUT)


def work_on(worker: Context, prompt: Prompt = CAT, *, limited: bool = False) -> Work:
    """A prompt in a shard of its own; `limited`: its batch limits how many are in flight."""
    return Work(worker, Shard("night", "b1", 0, 0, (prompt,)), prompt, limited=limited)


def work(
    worker: Context, index: int = 0, model: str = "simulator/image", *, limited: bool = False, **given: Any
) -> Work:
    """Prompt p0, p1, …; each has an input of its own."""
    return work_on(worker, Prompt(index, f"p{index}", model, INPUT | given | {"seed": index}), limited=limited)


def record_of(work: Work) -> Result:
    """What is on disk of a prompt that has ended."""
    found = work.folder.read_record(work.prompt.id)
    assert found
    return found


def refer_to(path: Path) -> dict[str, Any]:
    """What stands in an input for a local file."""
    content = path.read_bytes()
    return FileReference(str(path), hashlib.sha256(content).hexdigest(), len(content)).as_value()


def filed_work(worker: Context, index: int = 0, *paths: Path, **given: Any) -> Work:
    """Prompt p0, p1, …, which have the files as references, and the same input otherwise."""
    values = {"prompt": "cat", "references": [refer_to(path) for path in paths]} | given
    return work_on(worker, Prompt(index, f"p{index}", "simulator/everything", values))
