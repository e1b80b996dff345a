"""Rows of a file that become many are checked as if they stood there."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Problem
from jobs.expansion.expansion import Expansion, Sample
from jobs.expansion.matrix import build_matrix
from jobs.expansion.template import TemplateError, read_template
from jobs.expansion.value_list import read_values
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts


def read(path: Path, *each: str, names: KeyNames | None = None, **given: Any) -> list[Row | Problem]:
    expansion = Expansion(build_matrix([read_values(text) for text in each], None, None))
    return list(chain.from_iterable(read_prompts(str(path), Defaults("o/n", given), Ids(), names, expansion)))


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
        ({"prompt": "x", "image": {"$file": "a.png"}}, "line 1: 'input.image': {\"$file\": …} is how a batch keeps"),
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
        == "line 1: 'input.style' has a NUL character (\\u0000), which is not text"
    )
    assert texts(read(path, "seed=1e999"))[0] == "line 1: a number is too large"
    assert texts(read(path, r'style="\ud800"'))[0].startswith("line 1: half a surrogate pair")


def test_a_variant_with_a_path_is_marked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "x"})
    found = [row for row in read(path, "image=@a.png,https://a.test/b.png") if isinstance(row, Row)]
    assert [row.names_files for row in found] == [True, False]


def fill(path: Path, template: str | None, *each: str, sample: Sample | None = None, **given: Any) -> list[Any]:
    matrix = build_matrix([read_values(text) for text in each], None, None)
    expansion = Expansion(matrix, None if template is None else read_template(template), template is None, sample)
    return texts(
        list(chain.from_iterable(read_prompts(str(path), Defaults("o/n", given), Ids(), KeyNames(), expansion)))
    )


def test_a_template_uses_up_the_columns_that_it_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "name,seed", "cat,1", "dog,2")
    assert fill(path, "a {photo|drawing} of a {name} in {style}", "style=oil,ink", steps=4)[:3] == [
        {"id": f"000001--style-{style}--{kind}", "model": "o/n",
         "input": {"prompt": f"a {kind} of a cat in {style}", "seed": 1, "steps": 4}}
        for style, kind in (("oil", "photo"), ("oil", "drawing"), ("ink", "photo"))
    ]  # fmt: skip
    assert fill(path, "a {name} by {who}", who="me")[0]["input"] == {"prompt": "a cat by me", "seed": 1}


def test_cells_of_a_table_stand_in_a_prompt_as_they_are_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "price,good,year,seed", "1.50,TRUE,1e3,7")
    (row,) = fill(path, "{price} {good} {year} {seed}", "seed=8")
    assert row["input"] == {"prompt": "1.50 TRUE 1e3 8"}


def test_every_row_that_does_not_fill_the_template_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "name,style", "cat,oil", "dog,", ",ink")
    assert fill(path, "a {name}, {style}", "seed=1..3")[3:] == [
        "line 3: the template needs 'style', which the row does not have; it has name, seed",
        "line 4: the template needs 'name', which the row does not have; it has style, seed",
    ]
    assert "is 'name' meant?" in fill(path, "a {nam}")[0]


def test_the_rows_own_prompts_may_be_templates(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"prompt": "a {red|blue} {animal}", "animal": "fox"},
        {"prompt": "a {red"},
        {"input": {"image": "https://o.test/a.png"}},
        {"prompts": "{a|b}"},
    )
    found = fill(path, None)
    assert [row["input"] for row in found[:2]] == [{"prompt": "a red fox"}, {"prompt": "a blue fox"}]
    assert found[2].startswith("line 2: at character 3 of the template: a { has no }")
    assert found[3]["input"] == {"image": "https://o.test/a.png"}
    assert found[4].startswith("line 4: it has neither input nor prompt")


def test_a_sample_is_the_same_each_time_and_part_of_a_larger_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "x", "prompt": "p"}, {"id": "y", "prompt": "p"})
    huge = " ".join("{a|b|c|d|e|f|g|h}" for _ in range(40))
    few, more = (fill(path, huge, sample=Sample(size)) for size in (3, 5))
    assert few == fill(path, huge, sample=Sample(3))
    assert few[:3] == more[:3]
    assert few[3:] == more[5:8]
    assert few[0]["input"] != few[3]["input"], "each row has its own"
    assert few != fill(path, huge, sample=Sample(3, seed=1))
    assert len({row["id"] for row in more}) == 10
    assert len(fill(path, "{a|b|c}", sample=Sample(7))) == 6, "there are no more"
    with pytest.raises(TemplateError, match="more than 1,000,000 rows"):
        Expansion(build_matrix([], None, None), read_template(huge)).check()


def test_a_prompt_that_a_template_replaces_is_a_warning(tmp_path: Path) -> None:
    path, names = write(tmp_path / "a.jsonl", {"prompt": "x"}), KeyNames()
    for template, warnings in (("a {prompt}", 0), ("a fox", 1)):
        expansion = Expansion(build_matrix([], None, None), read_template(template))
        list(chain.from_iterable(read_prompts(str(path), Defaults("o/n"), Ids(), names, expansion)))
        assert len(names.warnings()) == warnings
