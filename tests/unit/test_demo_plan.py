"""The demo judges its own run; that it can tell a bad one from a good one is shown here."""

from __future__ import annotations

import hashlib
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from demo.environment import find_free_port, is_finished
from demo.plan import PROMPTS, SPECIAL, deviations
from jobs.batch_folder.folder import Folder
from jobs.wire import Failure, Result, SavedFile

ROWS = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def result(**changes: Any) -> Result:
    facts: dict[str, Any] = {"id": "fox", "index": 0, "status": "succeeded", "attempts": 1, "model": "m", "input": {}}
    return Result(**(facts | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path, "demo")
    folder.path.mkdir()
    folder.manifest.write_text('{"id": "x"}')
    folder.prompts.write_text('{"id": "fox", "model": "m", "input": {}}\n')
    return folder


def test_the_samples_cover_every_kind_of_output() -> None:
    assert len(ROWS) == 40
    models = Counter(row["model"].removeprefix("simulator/").partition(":")[0] for row in ROWS)
    assert set(models) > {"image", "text", "tokens", "audio", "json", "nested", "upscale", "flaky", "slow"}
    assert {row["input"]["num_outputs"] for row in ROWS if "num_outputs" in row["input"]} == {2, 3, 4}


def test_every_planned_failure_is_a_sample() -> None:
    assert set(SPECIAL) <= {row["id"] for row in ROWS}
    assert sorted(plan.kind or plan.status for plan in SPECIAL.values()) == [
        "content_policy",
        "model_error",
        "succeeded",
    ]


def test_what_goes_as_planned_surprises_nobody(folder: Folder) -> None:
    assert list(deviations([result()], folder, created=1, expected=1)) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attempts": 2}, "planned succeeded, 1 prediction; it was succeeded, 2 predictions"),
        (
            {"status": "failed", "error": Failure(kind="internal", message="oh no")},
            "it was failed: internal, 1 prediction: oh no",
        ),
    ],
)
def test_another_outcome_is_a_surprise(folder: Folder, changes: dict[str, Any], sentence: str) -> None:
    (surprise,) = deviations([result(**changes)], folder, created=1, expected=1)
    assert surprise.startswith("fox: ")
    assert sentence in surprise


def test_a_planned_failure_that_succeeds_is_a_surprise(folder: Folder) -> None:
    folder.prompts.write_text('{"id": "fails-for-good", "model": "m", "input": {}}\n')
    (surprise,) = deviations([result(id="fails-for-good")], folder, created=1, expected=1)
    assert "planned failed: model_error, 1 prediction" in surprise


def test_a_missing_result_is_a_surprise(folder: Folder) -> None:
    assert list(deviations([], folder, created=0, expected=0)) == [f"{folder.results} has 0 results for 1 prompts"]


def test_a_prediction_too_many_is_a_surprise(folder: Folder) -> None:
    assert list(deviations([result()], folder, created=2, expected=1)) == ["2 predictions were created, 1 were meant"]


@pytest.mark.parametrize("bytes_on_disk", [None, b"", b"other"])
def test_a_file_that_is_not_whole_is_a_surprise(folder: Folder, bytes_on_disk: bytes | None) -> None:
    saved = SavedFile(path="fox/output.png", url="u", bytes=4, sha256=hashlib.sha256(b"fox!").hexdigest())
    (folder.path / "fox").mkdir()
    if bytes_on_disk is not None:
        (folder.path / saved.path).write_bytes(bytes_on_disk)
    with_file = result(files=(saved,))
    assert list(deviations([with_file], folder, created=1, expected=1)) == ["fox: fox/output.png is not whole"]
    (folder.path / saved.path).write_bytes(b"fox!")
    assert list(deviations([with_file], folder, created=1, expected=1)) == []


def test_a_batch_is_finished_with_its_last_result(folder: Folder) -> None:
    assert not is_finished(folder)
    folder.results.write_text("")
    assert not is_finished(folder)
    folder.results.write_text("{}\n")
    assert is_finished(folder)
    folder.manifest.unlink()
    assert not is_finished(folder)


def test_a_free_port_is_taken_as_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    assert find_free_port(port) in (port, port + 100)  # somebody may have taken it, or the next one, since


@pytest.mark.parametrize("which", [0, 1])
def test_a_taken_port_and_a_taken_neighbour_are_passed_over(which: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: int = server.getsockname()[1]
        port = find_free_port(taken - which)
    assert port != taken - which
    assert (port - taken + which) % 100 == 0
