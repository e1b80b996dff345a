"""The end of a batch: its results and its gallery, from the segments that its shards have left."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import MeasuredProcess, Usage, temporary_folder
from jobs.batch_folder.folder import RECORD, Folder
from jobs.batch_folder.manifest import Manifest, write_manifest
from jobs.batch_folder.prompts_copy import kept_line
from jobs.batch_folder.rows.row import Row, build_row, digest_of_line, mark
from jobs.batch_folder.rows.segment import write_segment
from jobs.wire import SHARD_SIZE, Failure, Prompt, Result, SavedFile, canonical_json

BATCH_ID = "bench"
FAILED_EVERY = 50


def close_batch(count: int) -> Usage:
    """Close a batch of `count` prompts, one in fifty failed, with BATCH_FSYNC as by default."""
    with temporary_folder() as root:
        folder = Folder(root, "bench")
        settle(folder, count)
        return MeasuredProcess([sys.executable, "-m", "benchmarks.clients.closing", str(root)], {}, root).wait()


def settle(folder: Folder, count: int) -> None:
    """Leave what the shards of a batch leave: the folders of the prompts, and the segments.

    Records and files are only those of two prompts, which the rows of all others are copied from: the end of a batch
    does not read them.
    """
    folder.path.mkdir()
    write_manifest(folder, Manifest(folder.batch, BATCH_ID, "api.replicate.com", 0.0), fsync=False)
    with folder.opened(None) as directory, folder.prompts.open("wb") as copy:
        samples = [_sample(folder, directory, name) for name in ("sample-failed", "sample-succeeded")]
        rows: list[Row] = []
        for index, line in enumerate(_lines(count)):
            copy.write(line)
            rows.append(_row(directory, samples[index % FAILED_EVERY > 0], index, line))
            if len(rows) == SHARD_SIZE or index == count - 1:
                write_segment(directory, BATCH_ID, index // SHARD_SIZE, rows)
                rows.clear()


def _lines(count: int) -> Iterator[bytes]:
    for index in range(count):
        values = {"prompt": f"A lighthouse at dawn, study {index}", "width": 1024, "height": 768}
        row = {"id": f"study-{index}", "input": values, "model": "bench/model"}
        yield kept_line(canonical_json(row).encode(), 0)


def _sample(folder: Folder, directory: int, name: str) -> Row:
    """The row of a real record."""
    prompt = Prompt(0, name, "bench/model", {"prompt": "A lighthouse at dawn, study 0", "width": 1024, "height": 768})
    result = Result(
        id=name, index=0, status="succeeded", attempts=1, prediction_id="p" * 26, prediction_ids=("p" * 26,),
        model=prompt.model, version="0" * 64, input=prompt.input, metrics={"predict_time": 1.5}, cost=0.003,
        saved_at="2026-01-01T00:00:00.000Z",
    )  # fmt: skip
    if name == "sample-failed":
        result = result.model_copy(update={"status": "failed", "error": Failure(kind="model_error", message="no")})
    else:
        file = SavedFile(path=f"{name}/output_0.png", url="https://replicate.delivery/x.png", bytes=9, sha256="0" * 64)
        result = result.model_copy(update={"output": [file.path], "files": (file,)})
    folder.prompt(name).mkdir()
    Path(folder.prompt(name), RECORD).write_text(result.model_dump_json())
    return build_row(folder, directory, prompt, "", with_html=True)


def _row(directory: int, sample: Row, index: int, line: bytes) -> Row:
    """The row of a prompt whose result is that of the sample."""
    name = f"study-{index}"
    os.mkdir(name, dir_fd=directory)
    return sample._replace(
        place=index,
        id=name,
        digest=digest_of_line(line),
        marks=(mark(directory, name), *sample.marks[1:]),
        line=sample.line.replace(sample.id, name),
        html=(sample.html or "").replace(sample.id, name),
    )
