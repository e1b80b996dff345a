from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.options import read_input
from jobs.expansion.value_list import json_or_text

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)
)


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert json_or_text(json.dumps(value)) == value


@given(st.text())
def test_any_text_has_a_value(text: str) -> None:
    value = json_or_text(text)
    assert value == text or json.loads(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('"4"', "4"),
        ('["a"]', ["a"]),
        ("", ""),
        ("16:9", "16:9"),
        ("a cat", "a cat"),
        ("NaN", "NaN"),
        ("[Infinity]", "[Infinity]"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_if_it_parses_else_text(text: str, value: Any) -> None:
    assert json_or_text(text) == value


def test_pairs_become_an_input() -> None:
    assert read_input(["steps=4", "style=a=b", "seed=1", "seed=2", "empty="]) == {
        "steps": 4,
        "style": "a=b",
        "seed": 2,
        "empty": "",
    }
    assert read_input([]) == {}


@pytest.mark.parametrize("pair", ["steps", "=4", "", "="])
def test_a_pair_without_key_or_sign_is_refused(pair: str) -> None:
    with pytest.raises(ValueError, match="is not KEY=VALUE"):
        read_input(["a=1", pair])
