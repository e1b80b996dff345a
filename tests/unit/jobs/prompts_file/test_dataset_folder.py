"""Folders of Hugging Face's datasets: metadata.jsonl, .csv or .parquet beside files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.errors import InputError
from tests.unit.jobs.prompts_file.rows import read


def ids(path: Path, *names: str) -> list[str]:
    rows = [json.dumps({"file_name": name, "prompt": "x"}) for name in names]
    (path / "metadata.jsonl").write_text("\n".join(rows))
    return [row["id"] if isinstance(row, dict) else row for row in read(path)]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_captions_become_prompts_and_files_ids(tmp_path: Path, suffix: str) -> None:
    rows = [{"file_name": "0001.png", "text": "a cat"}, {"file_name": "sub/0002.png", "text": "a dog"}]
    path = tmp_path / f"metadata.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "csv":
        path.write_text("file_name,text\n0001.png,a cat\nsub/0002.png,a dog\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(tmp_path, text="prompt") == [
        {"id": "0001", "model": "o/n", "input": {"prompt": "a cat"}},
        {"id": "sub-0002", "model": "o/n", "input": {"prompt": "a dog"}},
    ]
    mapped = read(tmp_path, text="prompt", file_name="image")
    assert [(row["id"], row["input"]["image"]) for row in mapped] == [
        ("0001", "@0001.png"),
        ("sub-0002", "@sub/0002.png"),
    ]
    assert read(tmp_path, text="prompt", file_name="id")[0]["id"] == "0001.png"


def test_ids_after_files_of_any_name(tmp_path: Path) -> None:
    found = ids(tmp_path, "my cat.png", "日本.png", "a.b.png", "x\\y.png", "Größe.jpg", ".hidden", "-x.png", "")
    assert found[:1] + found[2:4] == ["my-cat", "a.b", "x-y"]
    assert found[-1] == "000008"
    assert len(set(found)) == 8


def test_files_of_one_stem_have_ids_of_their_own(tmp_path: Path) -> None:
    assert ids(tmp_path, "a.png", "A.png", "a.jpg", "sub/a.png") == ["a", "A-png", "a-jpg", "sub-a"]


def test_a_mapped_file_may_be_a_url_or_a_text_for_people(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "https://a.test/a.png", "text": "x"}\n')
    assert read(tmp_path, text="prompt", file_name="image")[0]["input"]["image"] == "https://a.test/a.png"
    assert read(tmp_path, file_name="prompt", text="")[0]["input"] == {"prompt": "https://a.test/a.png"}
    (tmp_path / "metadata.jsonl").write_text('{"input": {"file_name": "a.png"}, "model": "a/b"}\n')
    assert read(tmp_path, file_name="image") == [{"id": "a", "model": "a/b", "input": {"image": "@a.png"}}]
    assert read(tmp_path, file_name="caption") == [{"id": "a", "model": "a/b", "input": {"caption": "a.png"}}]


def test_a_row_with_an_id_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(
        '{"id": "own", "file_name": "a.png", "input": {"prompt": "x"}}\n'
        '{"custom_id": "mine", "prompt": "x", "file_name": "b.png"}\n'
        '{"prompt": "x"}\n[1]\n{"prompt": "x", "file_name": 5}\n'
    )
    found = read(tmp_path)
    assert [row["id"] if isinstance(row, dict) else row for row in found] == [
        "line 1: unknown key 'file_name' beside input: only id, custom_id and model may be there",
        "mine",
        "000003",
        'line 4: a row is an object: {"prompt": …} or {"input": {…}}',
        "000005",
    ]


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a directory, and no dataset: it has neither metadata\.jsonl, nor"):
        read(tmp_path)
    for name in ("metadata.jsonl", "metadata.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"has metadata\.jsonl and metadata\.csv; name the one that is meant"):
        read(tmp_path)
