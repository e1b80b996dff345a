"""Outputs of finished prompts, found by the name that a row gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.output_files import find_output
from jobs.input_files.local_files import UnfitFile
from jobs.wire import Failure, Result, SavedFile

FILES = ("output_0.webp", "output_1.webp", "output_1.json")


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    folder = Folder(tmp_path, "portraits")
    folder.path.mkdir()
    folder.manifest.write_text('{"id": "1"}')
    files = tuple(SavedFile(path=f"harbour/{name}", url="https://a.test", bytes=1, sha256="00") for name in FILES)
    for result in (
        Result(id="harbour", index=0, status="succeeded", model="a/b", input={}, files=files),
        Result(id="text", index=1, status="succeeded", model="a/b", input={}),
        Result(id="bad", index=2, status="failed", model="a/b", input={}, error=Failure(kind="aborted", message="x")),
        Result(id="off", index=3, status="canceled", model="a/b", input={}),
    ):
        folder.prompt(result.id).mkdir()
        (folder.prompt(result.id) / "prediction.json").write_text(result.model_dump_json())
    folder.prompt("torn").mkdir()
    (folder.prompt("torn") / "prediction.json").write_text("{")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "batch.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [("output_0.webp", "output_0.webp"), ("output_0", "output_0.webp"), ("output_1.json", "output_1.json")],
)
def test_a_file_is_found_with_and_without_its_extension(output_dir: Path, name: str, found: str) -> None:
    assert find_output(output_dir, f"portraits/harbour/{name}") == output_dir / "portraits/harbour" / found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("portraits/harbour/output_0.png", "'output_0.png' of portraits/harbour, whose files are: output_0.webp, out"),
        ("portraits/text/output", "'output' of portraits/text, whose files are: none"),
        ("portraits/bad/output_0", "an output of portraits/bad, which failed"),
        ("portraits/off/output_0", "an output of portraits/off, which was canceled"),
        (
            "portraits/Nobody/output_0",
            "an output of portraits/Nobody, which is not done yet, or no prompt of that batch",
        ),
        ("portraits/../output_0", "an output of portraits/.., which is not done yet"),
        ("portraits/torn/output_0", "an output of portraits/torn: "),
        ("portraits/harbour", "an output, but not as @batch:BATCH/ID/FILE: @batch:portraits/harbour"),
        ("portraits", "an output, but not as"),
        ("", "an output, but not as"),
        ("nights/a/b", "an output of batch 'nights', which is not in {output_dir}"),
        ("../a/b", "an output of batch '..', which is not in"),
        ("torn/a/b", "an output of batch 'torn', which is not in"),
    ],
)
def test_what_is_not_found(output_dir: Path, name: str, reason: str) -> None:
    found = find_output(output_dir, name)
    assert isinstance(found, UnfitFile)
    assert found.reason.startswith(reason.format(output_dir=output_dir))
