from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.results import count_results, read_results, write_results
from jobs.batch_folder.reviews import Review, add_review
from jobs.batch_folder.rows.result_line import result_line
from jobs.batch_folder.rows.totals import Totals
from jobs.errors import StorageError
from jobs.wire import Failure, Result, SavedFile

Fill = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path, "night")
    folder.path.mkdir()
    return folder


@pytest.fixture
def fill(folder: Folder) -> Fill:
    """`fill(one=…, two=None)`: a prompt for each name, a record for each that has fields of a result."""

    def write(**prompts: dict[str, Any] | None) -> None:
        rows = []
        for index, (name, fields) in enumerate(prompts.items()):
            row = {"id": name, "model": "owner/model", "input": {"prompt": f"say {name}"}}
            rows.append(json.dumps(row))
            if fields is not None:
                result = Result(**{"index": index, "status": "succeeded", **row, **fields})
                folder.prompt(name).mkdir()
                record = json.loads(result.model_dump_json()) | {"prediction": {"id": "x"}}
                (folder.prompt(name) / "prediction.json").write_text(json.dumps(record), encoding="utf-8")
        folder.prompts.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")

    return write


def saved(path: str, size: int) -> SavedFile:
    return SavedFile(path=path, url="https://replicate.delivery/x", bytes=size, sha256="00", content_type="image/png")


FAILED: dict[str, Any] = {"status": "failed", "error": Failure(kind="model_error", message="no")}
CANCELED: dict[str, Any] = {"status": "canceled", "error": Failure(kind="canceled", message="asked for")}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_results_come_in_file_order_and_errors_apart(folder: Folder, fill: Fill) -> None:
    fill(zulu={}, bravo=FAILED, alpha=None, mike=CANCELED, kilo={})
    counted = write_results(folder, fsync=False)
    assert [line["id"] for line in lines(folder.results)] == ["zulu", "bravo", "mike", "kilo"]
    assert [line["id"] for line in lines(folder.errors)] == ["bravo", "mike"]
    assert counted == Totals(succeeded=2, failed=1, canceled=1, missing=1)
    assert counted.prompts == 5


def test_a_line_has_the_keys_of_the_model_in_its_order(folder: Folder, fill: Fill) -> None:
    fill(one={"files": (saved("one/output.png", 7),), "output": "one/output.png"})
    write_results(folder, fsync=False)
    (line,) = lines(folder.results)
    assert list(line) == list(Result.model_fields)
    assert list(line["files"][0]) == list(SavedFile.model_fields)
    assert line["error"] is None
    assert line["output"] == "one/output.png"


def test_files_and_bytes_are_summed_over_all_results(folder: Folder, fill: Fill) -> None:
    fill(one={"files": (saved("one/a", 7), saved("one/b", 30))}, two=FAILED, three={"files": (saved("three/a", 500),)})
    assert write_results(folder, fsync=False) == Totals(succeeded=2, failed=1, files=3, bytes=537)


def test_costs_are_summed_without_drift(folder: Folder, fill: Fill) -> None:
    fill(**{f"p{n}": {"cost": 0.1} for n in range(10)}, unpriced={})
    found = write_results(folder, fsync=False)
    assert (found.cost, found.cost_is_partial) == (1.0, False)
    fill(one={"cost": 0.1}, other={"prediction_ids": ("p1",)})
    assert write_results(folder, fsync=False).cost_is_partial
    fill(unpriced=None)
    assert count_results(folder).cost is None


def test_totals_write_nothing(folder: Folder, fill: Fill) -> None:
    fill(one={}, two=None, three=FAILED)
    before = sorted(folder.path.iterdir())
    assert count_results(folder) == Totals(succeeded=1, failed=1, missing=1)
    assert sorted(folder.path.iterdir()) == before


def test_results_can_be_read_at_any_time_from_the_records(folder: Folder, fill: Fill) -> None:
    fill(one={}, two=None, three=FAILED, four=CANCELED)
    assert [result.id for result in read_results(folder)] == ["one", "three", "four"]
    assert [result.id for result in read_results(folder, failed=True)] == ["three", "four"]
    assert not folder.results.exists()


def test_reading_holds_one_result_at_a_time(folder: Folder, fill: Fill) -> None:
    fill(one={}, two={})
    stream = read_results(folder)
    assert next(stream).id == "one"
    (folder.prompt("two") / "prediction.json").unlink()
    assert list(stream) == []


def test_a_batch_without_prompts_has_empty_files(folder: Folder) -> None:
    assert write_results(folder, fsync=False) == Totals()
    assert folder.results.read_bytes() == folder.errors.read_bytes() == b""


def test_writing_again_replaces_and_leaves_no_temporary_file(folder: Folder, fill: Fill) -> None:
    fill(one={}, two=None)
    write_results(folder, fsync=False)
    fill_two = folder.prompt("two")
    fill_two.mkdir()
    first = (folder.prompt("one") / "prediction.json").read_text(encoding="utf-8")
    (fill_two / "prediction.json").write_text(first.replace('"one"', '"two"'), encoding="utf-8")
    write_results(folder, fsync=False)
    assert [line["id"] for line in lines(folder.results)] == ["one", "two"]
    assert [path.name for path in folder.path.iterdir() if path.name.startswith(".")] == []


def test_text_stays_readable_and_line_separators_do_not_break_lines(folder: Folder, fill: Fill) -> None:
    text = "Grüße, 山, 🦊 \u2028 a \u2029 b \x85 c \x1c d \x0b e \n f"
    fill(one={"input": {"prompt": text}, "output": text}, two={})
    write_results(folder, fsync=False)
    raw = folder.results.read_text(encoding="utf-8")
    assert "Grüße, 山, 🦊" in raw
    assert len(raw.splitlines()) == 2
    assert lines(folder.results)[0]["output"] == text


@settings(deadline=None)
@given(st.text())
def test_any_text_is_one_line_that_reads_back(text: str) -> None:
    result = Result(id="a", index=0, status="succeeded", model=text, input={text: [text]}, output={"deep": [text]})
    line = result_line(result)
    assert len(line.splitlines()) == 1
    assert Result.model_validate_json(line) == result


def test_a_damaged_record_is_a_failure_that_says_so(folder: Folder, fill: Fill) -> None:
    fill(one={}, two={})
    (folder.prompt("one") / "prediction.json").write_text("{", encoding="utf-8")
    counted = write_results(folder, fsync=False)
    assert (counted.succeeded, counted.failed) == (1, 1)
    error = next(read_results(folder, failed=True)).error
    assert error
    assert error.kind == "internal"
    assert "one/prediction.json is no record" in error.message


def test_a_record_that_the_disk_does_not_show_is_named(folder: Folder, fill: Fill) -> None:
    fill(one={})
    path = folder.prompt("one") / "prediction.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match=r"one/prediction\.json cannot be read") as caught:
        write_results(folder, fsync=False)
    assert caught.value.path == path
    assert not folder.results.exists()
    assert [entry.name for entry in folder.path.iterdir() if entry.name.startswith(".")] == []


def test_a_file_that_cannot_be_written_is_a_sentence(folder: Folder, fill: Fill) -> None:
    fill(one={})
    folder.errors.mkdir()
    with pytest.raises(StorageError, match=r"errors\.jsonl cannot be used: Is a directory") as caught:
        write_results(folder, fsync=False)
    assert caught.value.path == folder.errors


def test_trouble_leaves_the_old_files(folder: Folder, fill: Fill) -> None:
    fill(one={}, two=FAILED)
    write_results(folder, fsync=False)
    before = folder.results.read_bytes(), folder.errors.read_bytes()
    record = folder.prompt("two") / "prediction.json"
    record.unlink()
    record.mkdir()
    with pytest.raises(StorageError):
        write_results(folder, fsync=False)
    assert (folder.results.read_bytes(), folder.errors.read_bytes()) == before


def test_the_files_are_on_the_disk_before_they_have_their_names(
    folder: Folder, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(one={}, two=FAILED)
    seen: list[list[str]] = []

    def sync(_descriptor: int) -> None:
        seen.append(sorted(path.name for path in folder.path.glob("*s.jsonl") if path != folder.prompts))

    monkeypatch.setattr(os, "fsync", sync)
    write_results(folder, fsync=True)
    # Both a file and its folder: the inner file, then the outer one.
    assert seen == [[], ["errors.jsonl"], ["errors.jsonl"], ["errors.jsonl", "results.jsonl"]]


def test_a_review_stands_beside_its_result(folder: Folder, fill: Fill) -> None:
    fill(cat={"status": "succeeded"}, dog={"status": "succeeded"})
    add_review(folder, Review(id="dog", rating=4), fsync=False)
    write_results(folder, fsync=False)
    cat, dog = lines(folder.results)
    assert "review" not in cat
    assert (dog["review"]["rating"], dog["review"]["starred"]) == (4, False)


@pytest.mark.parametrize(
    "value", ["1e400", "NaN", "-0.0", "1" * 400, '"\\ud800"', '{"a":1,"a":2}', f"{'[' * 250}{']' * 250}"]
)
def test_a_record_is_read_as_json_reads_it(folder: Folder, fill: Fill, value: str) -> None:
    """The faster way to read a record takes less of JSON, and leaves the rest to the other."""
    fill(one={})
    text = f'{{"id":"one","index":0,"status":"succeeded","model":"m","input":{{"x":{value}}},"output":{value}}}'
    (folder.prompt("one") / "prediction.json").write_text(text)
    assert repr(folder.read_record("one")) == repr(Result.model_validate(json.loads(text)))
    assert write_results(folder, fsync=False).succeeded == 1
