from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs.shape import document, files_in, is_empty, other_texts, replaced, without

URL = "https://replicate.delivery/x"


def is_file(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(URL)


def stems(output: Any) -> list[str]:
    return [file.stem for file in files_in(output, is_file)]


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (URL, ["output"]),
        ([URL], ["output_0"]),
        ([URL, URL, URL], ["output_0", "output_1", "output_2"]),
        ([[URL], [URL, URL]], ["output_0_0", "output_1_0", "output_1_1"]),
        ([{"file": URL}, {"file": URL}], ["output_0_file", "output_1_file"]),
        ({"zip": URL, "video": URL}, ["output_zip", "output_video"]),
        ({"text": "a cat", "image": URL}, ["output_image"]),
        ({"a b": URL, "a/b": URL, "a-b": URL}, ["output_a-b", "output_a-b-2", "output_a-b-3"]),
        ({"Video": URL, "video": URL}, ["output_Video", "output_video-2"]),
        ({"a_b": URL, "a": {"b": URL}}, ["output_a_b", "output_a_b-2"]),
        ({"a-2": URL, "a": URL, "A": URL}, ["output_a-2", "output_a", "output_A-3"]),
        ({"": URL}, ["output_"]),
        ({"../../etc": URL}, ["output_-etc"]),
        ({"é\n\x00": URL}, ["output_-"]),
        ({"k" * 500: URL, "k" * 600: URL}, ["output_" + "k" * 113, "output_" + "k" * 113 + "-2"]),
        (["no", "files"], []),
        ("text", []),
        (None, []),
        ([], []),
        (3, []),
    ],
)
def test_files_are_named_by_their_place(output: Any, names: list[str]) -> None:
    assert stems(output) == names


@pytest.mark.parametrize(
    ("output", "name", "content"),
    [
        ("a story", "output.txt", "a story"),
        ("", "output.txt", ""),
        (["Once", " upon", " a", " time"], "output.txt", "Once upon a time"),
        (["\ud83d", "\ude00"], "output.txt", "😀"),
        (["half \ud83d"], "output.txt", "half \ufffd"),
        (3.5, "output.json", "3.5"),
        (True, "output.json", "true"),
        ([], "output.json", "[]"),
        ({}, "output.json", "{}"),
        ([[0.1, 2], [3]], "output.json", "[[0.1, 2], [3]]"),
        (["a", 1], "output.json", '["a", 1]'),
        ([["a"]], "output.json", '[["a"]]'),
        ({"text": "é"}, "output.json", '{"text": "é"}'),
        ({"text": "\ud83d"}, "output.json", '{"text": "\\ud83d"}'),
        ({"image": URL, "seed": None}, "output.json", f'{{"image": "{URL}", "seed": null}}'),
        (["caption", URL], "output.json", f'["caption", "{URL}"]'),
    ],
)
def test_what_is_no_file_becomes_one(output: Any, name: str, content: str) -> None:
    rest = document(output, len(stems(output)), output)
    assert rest
    assert (rest.name, rest.content.decode()) == (name, content)


@pytest.mark.parametrize("output", [None, URL, [URL], [[URL], []], {"a": URL, "b": {}}, [{"file": URL}]])
def test_files_alone_need_no_document(output: Any) -> None:
    assert document(output, len(stems(output)), output) is None


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(URL)
outputs = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=25)


@given(outputs)
def test_any_output_gives_unique_safe_names_and_keeps_its_shape(output: Any) -> None:
    found = files_in(output, is_file)
    assert len({file.stem.lower() for file in found}) == len(found)
    assert all(re.fullmatch(r"output[A-Za-z0-9_-]{0,150}", file.stem) for file in found)
    text = json.dumps(output)
    assert len(found) == text.count(json.dumps(URL)) - sum(key == URL for key in keys(output))
    paths = {file.place: f"p/{file.stem}" for file in found}
    value = replaced(output, paths)
    assert not any(is_file(leaf) for leaf in all_leaves(value))
    back = dict.fromkeys(paths.values(), URL)
    if not any(leaf in back for leaf in all_leaves(output) if isinstance(leaf, str)):
        assert without(value, back) == output
    if rest := document(output, len(found), value):
        assert rest.name in ("output.txt", "output.json")
        assert rest.name.partition(".")[0] not in {file.stem for file in found}
        assert rest.name == "output.txt" or json.loads(rest.content) == value


def all_leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in all_leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in all_leaves(item)]
    return [value]


def keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in keys(item))]
    return [key for item in value for key in keys(item)] if isinstance(value, list) else []


def test_texts_are_replaced_wherever_they_stand_alone() -> None:
    prediction = {"input": {"image": "data:,x", "n": 1}, "output": ["data:,x", "not data:,x"], "data:,x": None}
    assert without(prediction, {"data:,x": "a/output.txt"}) == {
        "input": {"image": "a/output.txt", "n": 1},
        "output": ["a/output.txt", "not data:,x"],
        "data:,x": None,
    }


@pytest.mark.parametrize("output", [None, "", [], {}, [""], [[], {}], {"images": []}, {"text": "", "audio": None}])
def test_an_output_with_nothing_in_it_is_empty(output: Any) -> None:
    assert is_empty(output)


@pytest.mark.parametrize("output", [0, False, " ", [0], {"nsfw": False}, ["", "x"], {"images": [], "seed": 7}])
def test_an_output_with_anything_in_it_is_not(output: Any) -> None:
    assert not is_empty(output)


def test_texts_are_what_is_left_beside_the_files() -> None:
    output = {"image": URL, "caption": "a cat", "more": [URL + "2", 3, None, "b"]}
    assert other_texts(output, files_in(output, is_file)) == ["a cat", "b"]
