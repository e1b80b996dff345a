"""Rows of a file that become many are checked as if they stood there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Problem
from jobs.expansion.expansion import Expansion
from jobs.expansion.matrix import build_matrix
from jobs.expansion.value_list import read_values
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts


def read(path: Path, *each: str, names: KeyNames | None = None, **given: Any) -> list[Row | Problem]:
    expansion = Expansion(build_matrix([read_values(text) for text in each], None, None))
    return list(read_prompts(str(path), Defaults("o/n", given), Ids(), names, expansion))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def texts(found: list[Row | Problem]) -> list[Any]:
    return [json.loads(item.text) if isinstance(item, Row) else str(item) for item in found]


def test_every_format_is_multiplied(tmp_path: Path) -> None:
    rows = [
        write(tmp_path / "a.jsonl", {"prompt": "cat"}),
        write(tmp_path / "b.csv", "prompt", "cat"),
        write(tmp_path / "c.txt", "cat"),
        write(tmp_path / "d.jsonl", "[", {"input": {"prompt": "cat"}}, "]"),
    ]
    for path in rows:
        found = texts(read(path, "seed=1..2"))
        assert [row["input"] for row in found] == [{"prompt": "cat", "seed": 1}, {"prompt": "cat", "seed": 2}]
        assert [row["id"] for row in found] == ["000001--seed-1", "000001--seed-2"], path


def test_the_rows_keep_their_line_id_model_and_what_the_command_line_fills_in(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"id": "one", "model": "a/b", "prompt": "cat"},
        {"custom_id": "two", "input": {"steps": 1, "list": [2**70]}},
    )
    found = read(path, "model=c/d,e/f", "seed=1", steps=4)
    assert [item.line for item in found] == [1, 1, 2, 2]
    assert texts(found) == [
        {"id": "one--seed-1--model-c-d", "input": {"prompt": "cat", "seed": 1, "steps": 4}, "model": "c/d"},
        {"id": "one--seed-1--model-e-f", "input": {"prompt": "cat", "seed": 1, "steps": 4}, "model": "e/f"},
        {"id": "two--seed-1--model-c-d", "input": {"list": [2**70], "seed": 1, "steps": 1}, "model": "c/d"},
        {"id": "two--seed-1--model-e-f", "input": {"list": [2**70], "seed": 1, "steps": 1}, "model": "e/f"},
    ]
    assert next(item.text for item in found if isinstance(item, Row)).startswith(
        b'{"id":"one--seed-1--model-c-d","input":'
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "line 1: not JSON"),
        ([1], "line 1: a row is an object"),
        ({"id": "a b", "prompt": "x"}, "line 1: the id 'a b' is not"),
        ({"id": "a", "custom_id": "a", "prompt": "x"}, "line 1: it has both"),
        ({"prompts": "x"}, "line 1: it has neither input nor prompt: it has 'prompts'"),
        ({"input": [], "model": "o/n"}, "line 1: input is not an object"),
        ({"input": {}, "seed": 1}, "line 1: unknown key 'seed' beside input"),
        ({"model": "flux", "prompt": "x"}, "line 1: 'flux' is not a model"),
        ({"prompt": "x", "image": "./a.png"}, "line 1: 'input.image': './a.png' names a local file"),
        ({"prompt": "x\0"}, "line 1: 'input.prompt' has a NUL"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_once(tmp_path: Path, row: Any, problem: str) -> None:
    (found,) = texts(read(write(tmp_path / "a.jsonl", row), "seed=1..100", "steps=1..3"))
    assert found.startswith(problem)


def test_a_row_that_is_there_twice_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "a", "prompt": "x"}, {"id": "A", "prompt": "y"})
    assert texts(read(path, "seed=1..3"))[3:] == ["line 2: the id 'A--seed-1' is that of line 1 already"]


def test_what_the_command_line_replaces_is_a_warning(tmp_path: Path) -> None:
    names = KeyNames()
    path = write(tmp_path / "a.jsonl", {"prompt": "x"}, {"prompt": "x", "seed": 4, "model": "a/b"})
    read(path, "seed=1..3", "model=c/d", names=names)
    assert names.rows == 2
    assert sorted(names.warnings()) == [
        f"line 2: the row has a {key} of its own, which the command line replaces" for key in ("model", "seed")
    ]


def test_an_empty_file_stays_an_error(tmp_path: Path) -> None:
    assert texts(read(write(tmp_path / "a.jsonl"), "seed=1..3")) == ["there is no prompt in it"]


def test_values_that_may_not_be_are_told_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "x"})
    assert (
        texts(read(path, r'style="a\u0000"'))[0]
        == "line 1: 'input.style' has a NUL character (\\u0000), which is no text"
    )
    assert texts(read(path, "seed=1e999"))[0] == "line 1: a number is too large"
    assert texts(read(path, r'style="\ud800"'))[0].startswith("line 1: half a surrogate pair")
    assert texts(read(path, "image=./a.png"))[0].endswith("names a local file; give an https URL or a data: URI")
