from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.catalog.input_schema import InputSchema
from jobs.catalog.model import Missing, Model
from jobs.catalog.references import input_schema
from jobs.catalog.row_check import RowCheck
from jobs.input_files.reference import FileReference
from jobs.input_files.resolver import FileResolver
from jobs.prompts_file.reader import Row, row_text
from simulator.answers import Problem
from simulator.models.model import COMMON_INPUTS
from simulator.models.registry import MODELS

NAMES = ("simulator/image", "simulator/everything", "simulator/community", "simulator/formless")
VERSION = MODELS["simulator/community"].version


def model(name: str) -> Model:
    found = MODELS[name]
    schema = input_schema(found.openapi_schema())
    return Model(name, found.version, found.official, schema, 1.0, None if schema else "no schema")


KNOWN = {name: model(name) for name in NAMES}


def row(
    values: dict[str, Any], name: str = "simulator/image", line: int = 1, cells: dict[str, str] | None = None
) -> Row:
    return Row(line, f"p{line}", name, row_text(f"p{line}", name, values), cells)


def kept(one: Row) -> Row:
    checked = RowCheck(KNOWN).check(one)
    assert checked
    return checked.row


def problems(*rows: Row, allow_unknown: bool = False) -> list[str]:
    check = RowCheck(KNOWN, allow_unknown=allow_unknown)
    for one in rows:
        assert check.check(one) is None
    return [str(problem) for problem in check.mistakes.problems()]


GOOD = {"prompt": "a lamp"}


CURE = 'write {"$env": "NAME"} in its place, and set NAME where the workers run'


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        ({}, "image", "'prompt' is missing, which simulator/image needs"),
        (GOOD | {"num_output": 2}, "image", "simulator/image has no input 'num_output'; did you mean 'num_outputs'?"),
        (GOOD | {"Num-Outputs": 2}, "image", "simulator/image has no input 'Num-Outputs'; did you mean 'num_outputs'?"),
        (GOOD | {"zzz": 2}, "image", "simulator/image has no input 'zzz'"),
        (GOOD | {"num_outputs": 9}, "image", "'num_outputs' is 9, more than 4, the most of simulator/image"),
        (GOOD | {"num_outputs": 0}, "image", "'num_outputs' is 0, less than 1, the least of simulator/image"),
        (GOOD | {"num_outputs": "4"}, "image", "'num_outputs' is '4', not a whole number"),
        (GOOD | {"num_outputs": True}, "image", "'num_outputs' is true, not a whole number"),
        (GOOD | {"num_outputs": 1.5}, "image", "'num_outputs' is 1.5, not a whole number"),
        (GOOD | {"seed": None}, "image", "'seed' is null, not a whole number"),
        ({"prompt": ["a"]}, "image", "'prompt' is [\"a\"], not text"),
        (
            GOOD | {"output_format": "jpeg"},
            "image",
            "'output_format' is 'jpeg'; simulator/image takes 'png', 'webp' or 'jpg'; did you mean 'jpg'?",
        ),
        (
            {"image": " "},
            "everything",
            "'image' is ' ', not a URL: give an https URL, a data: URI or the path of a file",
        ),
        (
            {"image": "iVBORw0KGgo/" * 400},
            "everything",
            f"'image' is '{('iVBORw0KGgo/' * 400)[:60]}…', not a URL: give",
        ),
        ({"image": 3}, "everything", "'image' is 3, not null or text"),
        ({"references": ["https://a/b", "/c"]}, "everything", "'references[1]' names /c, which does not exist"),
        ({"sizes": [0]}, "everything", "'sizes[0]' is 0, less than 1, the least of simulator/everything"),
        ({"key": 12345}, "everything", f"'key' is a secret of simulator/everything: {CURE}"),
        ({"key": "12345"}, "everything", f"'key' is a secret of simulator/everything: {CURE}"),
        ({"key": None}, "everything", "'key' is null, not text"),
        ({"code": "123456789"}, "everything", "'code' is '123456789', which simulator/everything does not take: "),
        ({"scale": 0}, "everything", "'scale' is 0, which simulator/everything does not take: "),
    ],
)
def test_a_mistake_is_a_sentence(values: dict[str, Any], name: str, message: str) -> None:
    (found,) = problems(row(values, f"simulator/{name}"))
    assert found.startswith(f"line 1: {message}")
    assert "12345" not in found or "123456789" in found


def test_all_mistakes_of_a_row_are_told() -> None:
    found = problems(row({"promt": "x", "num_outputs": 9, "width": "wide"}))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([3], "line 3"),
        ([3, 5], "lines 3 and 5"),
        ([3, 5, 7], "lines 3, 5 and 7"),
        ([3, 5, 7, 8, 9], "lines 3, 5, 7, 8 and 9"),
        (list(range(3, 2003)), "lines 3, 4, 5, 6, 7 and 1,995 more"),
    ],
)
def test_lines_with_the_same_mistake_are_told_together(lines: list[int], shown: str) -> None:
    found = problems(*(row(GOOD | {"num_outputs": line + 2}, line=line) for line in lines))
    assert found == [f"{shown}: 'num_outputs' is {lines[0] + 2}, more than 4, the most of simulator/image"]


def test_memory_does_not_grow_with_different_mistakes() -> None:
    check = RowCheck(KNOWN)
    for line in range(3000):
        assert check.check(row(GOOD | {f"key{line}": 1}, line=line)) is None
    assert check.mistakes.count == 3000
    assert len(check.mistakes.problems()) == 1000


def test_unknown_keys_may_be_allowed_and_are_told() -> None:
    check = RowCheck(KNOWN, allow_unknown=True)
    good = row(GOOD | {"num_output": 2}, line=2)
    assert check.check(good) == (good, good.text)
    assert check.check(row({"promt": "x"})) is None, "what is missing is missing all the same"
    assert check.warnings() == [
        "line 2: simulator/image has no input 'num_output'; did you mean 'num_outputs'?, and will be ignored",
        "line 1: simulator/image has no input 'promt'; did you mean 'prompt'?, and will be ignored",
    ]


def test_a_row_that_is_right_stays_as_it_is() -> None:
    good = row(GOOD | {"num_outputs": 4, "output_format": "jpg", "seed": 10**30, "predict_time": 0.5})
    assert kept(good) is good


def test_a_reference_to_a_secret_is_a_value() -> None:
    good = row({"key": {"$env": "STYLE_KEY"}, "image": {"$env": "IMAGE_URL"}}, "simulator/everything")
    assert kept(good) is good
    assert len(problems(row({"key": {"$env": "STYLE_KEY"}, "steps": 99}, "simulator/everything"))) == 1


def test_a_literal_secret_that_is_allowed_is_marked() -> None:
    """A seed beyond 64 bits stays exact, also where nothing is checked."""
    given = {"prompt": "a", "key": "hunter2", "seed": 2**70}
    one = row(given, "simulator/everything")
    check = RowCheck(KNOWN, allow_literal_secrets=True, allow_unknown=True)
    for checked in (check.check(one), check.as_kept(one, KNOWN["simulator/everything"])):
        assert checked
        assert json.loads(checked.row.text)["input"] == given | {"key": {"$secret": "hunter2"}}
        assert checked.written == one.text
    assert check.check(row(GOOD, "simulator/image"))
    assert check.check(row({"key": 7, "scale": 0}, "simulator/everything")) is None
    (problem,) = check.mistakes.problems()
    assert "'scale' is 0" in problem.message


@pytest.mark.parametrize("secret", ["@/no/such/key.png", "./no/such.key", "~/key", "file:///etc/key"])
def test_a_secret_is_no_path(secret: str) -> None:
    """No message shows it, and no file is looked for."""
    one = row({"prompt": "a", "key": secret}, "simulator/everything")._replace(names_files=True)
    check = RowCheck(KNOWN, allow_literal_secrets=True)
    checked = check.check(one)
    assert checked, check.mistakes.problems()
    assert json.loads(checked.row.text)["input"]["key"] == {"$secret": secret}


def test_an_id_that_shows_a_literal_secret_is_a_mistake_that_does_not_show_it() -> None:
    values, name = {"prompt": "a", "key": "hunter2-hunter2"}, "simulator/everything"
    one = Row(1, "cat--key-hunter2-hunter2", name, row_text("cat--key-hunter2-hunter2", name, values), None)
    check = RowCheck(KNOWN, allow_literal_secrets=True)
    assert check.check(one) is None
    assert check.as_kept(one, KNOWN[name]) is None
    (problem,) = check.mistakes.problems()
    assert "the id shows the value of 'key', a secret: write {\"$env\"" in str(problem)
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "format": "password"},
        {"anyOf": [{"type": "string", "x-cog-secret": True}, {"type": "null"}]},
        {"allOf": [{"type": "string", "format": "password"}], "nullable": True},
        {"type": "array", "items": {"type": "string", "format": "password"}},
    ],
)
def test_a_secret_in_any_form_that_cog_writes(schema: dict[str, Any]) -> None:
    assert InputSchema({"properties": {"key": schema, "prompt": {"type": "string"}}}).secrets == {"key"}


def test_a_community_model_is_pinned() -> None:
    found = kept(row(GOOD, "simulator/community"))
    assert found.model == f"simulator/community:{VERSION}"
    assert json.loads(found.text) == {"id": "p1", "input": GOOD, "model": found.model}


def test_a_text_like_a_model_is_left_alone() -> None:
    values = {"prompt": '"model":"simulator/community"}'}
    assert json.loads(kept(row(values, "simulator/community")).text)["input"] == values


def test_a_model_without_a_schema_is_not_checked_and_that_is_told() -> None:
    check = RowCheck(KNOWN)
    for line in (4, 5):
        checked = check.check(row({"anything": 1}, "simulator/formless", line))
        assert checked
        assert checked.row.model.startswith("simulator/formless:")
    assert check.warnings() == ["line 4 and 1 more: not checked against simulator/formless: no schema"]


def test_a_model_that_is_not_there_is_told_once() -> None:
    check = RowCheck({"a/b": Missing("a/b", "it is gone", "a/c")})
    for line in (1, 2):
        assert check.check(row(GOOD, "a/b", line)) is None
    assert list(map(str, check.mistakes.problems())) == ["lines 1 and 2: a/b: it is gone; did you mean a/c?"]


def test_a_line_of_many_variants_is_named_once() -> None:
    check = RowCheck({"a/b": Missing("a/b", "it is gone", None)})
    for line in (1, 1, 1, 2, 2):
        assert check.check(row(GOOD, "a/b", line)) is None
    assert list(map(str, check.mistakes.problems())) == ["lines 1 and 2: a/b: it is gone"]


def test_cells_are_read_by_the_schema() -> None:
    guessed = {"prompt": "x", "code": 7, "steps": 7.0, "tiled": "TRUE", "sizes": "[1, 2]"}
    cells = {"prompt": "x", "code": "007", "steps": "7.0", "tiled": "TRUE", "sizes": "[1, 2]"}
    found = kept(row(guessed, "simulator/everything", cells=cells))
    assert json.loads(found.text)["input"] == {"prompt": "x", "code": "007", "steps": 7, "tiled": True, "sizes": [1, 2]}
    assert b'"steps":7,' in found.text


SCALARS = st.none() | st.booleans() | st.integers(-3, 1100) | st.floats(-2, 60) | st.text("ab 0:/.é", max_size=12)
SCALARS |= st.sampled_from(["png", "plain", "https://a.test/b.png", "data:,x", "a.png", "007", 7.0, 512])
ANYTHING = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text("ab$", max_size=3), SCALARS, max_size=2)


@given(st.data())
def test_a_checked_row_is_never_refused_by_the_simulator(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["simulator/image", "simulator/everything"]))
    target = MODELS[name]
    keys = st.sampled_from([*COMMON_INPUTS, *target.inputs, "unknown"])
    values = data.draw(st.dictionaries(keys, ANYTHING, max_size=6) | st.just({"prompt": "x"}))
    check = RowCheck(KNOWN, allow_unknown=data.draw(st.booleans()))
    if check.check(row(values, name)):
        target.check(values)
    else:
        assert check.mistakes.count


@given(st.data())
def test_what_the_simulator_takes_passes_the_check(data: st.DataObject) -> None:
    """But for keys that it would ignore."""
    name = data.draw(st.sampled_from(["simulator/image", "simulator/everything"]))
    target = MODELS[name]
    values = data.draw(st.dictionaries(st.sampled_from([*COMMON_INPUTS, *target.inputs]), ANYTHING, max_size=6))
    try:
        target.check(values)
    except Problem:
        return
    assert RowCheck(KNOWN, allow_literal_secrets=True).check(row(values, name))


@given(st.data())
def test_rows_that_are_checked_together_are_what_each_is_by_itself(data: st.DataObject) -> None:
    drawn = data.draw(
        st.lists(
            st.tuples(st.sampled_from([*NAMES, "o/missing"]), st.sampled_from(["x", "right", "wrong"])), max_size=9
        )
    )
    rows, known = [], KNOWN | {"o/missing": Missing("o/missing", "it does not exist")}
    for line, (name, kind) in enumerate(drawn, 1):
        keys = st.sampled_from([*COMMON_INPUTS, *MODELS[name].inputs, "unknown"]) if name in MODELS else st.just("a")
        values = data.draw(st.dictionaries(keys, ANYTHING, max_size=3)) if kind == "wrong" else {"prompt": kind}
        rows.append(row(values, name, line, cells={"prompt": "x"} if kind == "x" else None))
    together, each = RowCheck(known, allow_unknown=True), RowCheck(known, allow_unknown=True)
    assert together.check_all(rows) == [checked for one in rows if (checked := each.check(one))]
    assert together.mistakes.problems() == each.mistakes.problems()
    assert together.warnings() == each.warnings()


EVERYTHING = "simulator/everything"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "lamp"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def reference(path: Path) -> dict[str, Any]:
    return FileReference(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size).as_value()


def named(values: dict[str, Any], name: str = EVERYTHING, **more: Any) -> Row:
    return row(values, name, **more)._replace(names_files=True)


def test_files_become_references(home: Path) -> None:
    checked = RowCheck(KNOWN, FileResolver(home)).check(named({"image": "a.png", "references": ["@b.png", "data:,x"]}))
    assert checked
    expected = {"image": reference(home / "a.png"), "references": [reference(home / "b.png"), "data:,x"]}
    assert json.loads(checked.row.text)["input"] == expected
    assert checked.written == checked.row.text, "a batch that was not checked has it so"


def test_a_name_that_looks_like_no_path_is_a_file_where_the_schema_wants_one(home: Path) -> None:
    checked = RowCheck(KNOWN, FileResolver(home)).check(row({"image": "lamp"}, EVERYTHING))
    assert checked
    assert json.loads(checked.row.text)["input"] == {"image": reference(home / "lamp")}


def test_cells_may_name_files(home: Path) -> None:
    cells = {"image": " @a.png", "references": '["a.png", "@b.png"]', "steps": "7.0"}
    guessed = cells | {"steps": 7.0}
    checked = RowCheck(KNOWN, FileResolver(home)).check(named(guessed, cells=cells))
    assert checked
    files = [reference(home / "a.png"), reference(home / "b.png")]
    assert json.loads(checked.row.text)["input"] == {"image": files[0], "references": files, "steps": 7}
    assert json.loads(checked.written)["input"] == guessed | {"image": files[0]}


@pytest.mark.parametrize("model", [None, KNOWN[EVERYTHING], KNOWN["simulator/formless"]])
def test_files_are_found_without_a_check(home: Path, model: Model | None) -> None:
    check = RowCheck({}, FileResolver(home))
    kept = check.as_kept(named({"anything": ["@a.png"], "steps": "x"}), model)
    assert kept
    assert json.loads(kept.row.text)["input"] == {"anything": [reference(home / "a.png")], "steps": "x"}
    assert check.as_kept(named({"anything": "@gone/a.png"}), model) is None
    (problem,) = check.mistakes.problems()
    assert str(problem) == f"line 1: 'anything' names {home}/gone/a.png, and there is no folder {home}/gone"


def test_all_that_is_wrong_with_a_row_with_files_is_told(home: Path) -> None:
    check = RowCheck(KNOWN, FileResolver(home))
    values = {"image": ["@a.png"], "references": ["@gone.zip", "a.png"], "steps": 99, "imagee": "@a.png"}
    for line in (3, 4):
        assert check.check(named(values, line=line)) is None
    assert [str(problem) for problem in check.mistakes.problems()] == [
        f"lines 3 and 4: 'references[0]' names {home}/gone.zip, which does not exist",
        "lines 3 and 4: simulator/everything has no input 'imagee'; did you mean 'image'?",
        f"lines 3 and 4: 'image' is [\"@{home}/a.png\"], not null or text",
        "lines 3 and 4: 'steps' is 99, more than 50, the most of simulator/everything",
    ]
