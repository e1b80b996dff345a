"""Columns that are renamed or left out, in every format."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from jobs.expansion.expansion import Expansion
from jobs.expansion.matrix import build_matrix
from jobs.expansion.template import read_template
from jobs.prompts_file.columns import read_mapping
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts


def read(path: Path, content: str, *mapping: str, template: str | None = None) -> list[Any]:
    path.write_text(content)
    filled = read_template(template) if template else None
    expansion = Expansion(build_matrix([], None, None), filled, columns=read_mapping(mapping))
    found = chain.from_iterable(read_prompts(str(path), Defaults("o/n"), Ids(), expansion=expansion))
    return [json.loads(item.text) if isinstance(item, Row) else str(item) for item in found]


def test_columns_of_a_table(tmp_path: Path) -> None:
    table = "number,caption,notes,seed\n007,7,x,1\n008,TRUE,y,2\n"
    assert read(tmp_path / "a.csv", table, "caption=prompt", "notes=", "number=id") == [
        {"id": "007", "model": "o/n", "input": {"prompt": "7", "seed": 1}},
        {"id": "008", "model": "o/n", "input": {"prompt": "TRUE", "seed": 2}},
    ]
    assert read(tmp_path / "a.csv", "a,b\nx,y\n", "a=b", "b=a") == [
        {"id": "000001", "model": "o/n", "input": {"a": "y", "b": "x"}}
    ]
    assert read(tmp_path / "a.tsv", "caption\tprice, in euros\na, b\t1,5\n", "caption=prompt")[0]["input"] == {
        "prompt": "a, b",
        "price, in euros": "1,5",
    }
    assert read(tmp_path / "b.tsv", "prompt,seed\n1,2\n")[0]["input"] == {"prompt,seed": "1,2"}, "only tabs separate"


@pytest.mark.parametrize(
    ("row", "mapping", "expected"),
    [
        ({"caption": "x", "notes": "y"}, ["caption=prompt", "notes="], {"prompt": "x"}),
        ({"input": {"caption": "x", "n": "y"}}, ["caption=prompt", "n="], {"prompt": "x"}),
        ({"id": "i", "model": "m/n", "prompt": "x"}, ["model=variant"], {"prompt": "x", "variant": "m/n"}),
        ({"model": "v", "input": {"name": "o/n"}}, ["model=variant", "name=model"], {"variant": "v"}),
        ({"input": {"model": "an input", "a": 1}}, ["a=b"], {"model": "an input", "b": 1}),
        ({"url": "u", "prompt": "x"}, ["url="], {"prompt": "x"}),
    ],
)
def test_columns_of_json(tmp_path: Path, row: Any, mapping: list[str], expected: Any) -> None:
    (found,) = read(tmp_path / "a.jsonl", json.dumps(row), *mapping)
    assert (found["input"], found["model"]) == (expected, "o/n")
    (found,) = read(tmp_path / "a.jsonl", json.dumps([row], indent=1), *mapping)
    assert found["input"] == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_does_not_fit_is_told(tmp_path: Path, name: str) -> None:
    content = "caption,prompt\nx,y\n" if name == "a.csv" else '{"caption": "x", "prompt": "y"}\n'
    (found,) = (item for item in read(tmp_path / name, content, "caption=prompt") if "another" in item)
    assert found.startswith(
        "line 1: --map caption=prompt: there is another 'prompt'; leave that one out by --map prompt="
    )
    assert read(tmp_path / name, content, "caption=prompt", "prompt=")[0]["input"] == {"prompt": "x"}
    assert read(tmp_path / name, content, "captoin=prompt")[-1] == (
        "--map captoin=prompt: no row has a column 'captoin'; is 'caption' meant?"
    )
    assert read(tmp_path / name, content, "x=y")[-1].endswith("no row has a column 'x'; there are caption, prompt")


def test_renamed_columns_fill_templates(tmp_path: Path) -> None:
    (found,) = read(tmp_path / "a.csv", "Name,x\ncat,1\n", "Name=who", "x=", template="a {who}")
    assert found["input"] == {"prompt": "a cat"}


def test_rows_that_are_no_objects_stay_errors(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '[1]\n{"input": 5}\n{"a": 1\n', "a=b")[0].startswith("line 1: a row is an object")
    assert read(tmp_path / "b.jsonl", '{"input": 5}\n', "a=b")[0].startswith("line 1: input is not an object")
    assert read(tmp_path / "c.jsonl", "", "a=b") == ["there is no prompt in it"]
