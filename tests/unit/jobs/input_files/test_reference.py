"""References to local files: what is one, and their replacement."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.input_files.reference import FileReference, read_reference, references, with_files

SHA256 = "0123456789abcdef" * 4
FILE = FileReference("/stills/häfen 1.png", SHA256, 7)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just(FILE.as_value()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def test_a_reference_is_read_back() -> None:
    assert read_reference(FILE.as_value()) == FILE


@pytest.mark.parametrize(
    "value",
    [
        {"$file": "/a.png"},
        {"$file": "/a.png", "sha256": SHA256, "size": True},
        {"$file": "/a.png", "sha256": SHA256[1:], "size": 1},
        {"$file": "/a.png", "sha256": SHA256.upper(), "size": 1},
        {"$file": 3, "sha256": SHA256, "size": 1},
        {"$file": "/a.png", "sha256": SHA256, "size": 1, "more": 1},
        "@/a.png",
        [FILE.as_value()],
    ],
)
def test_anything_else_is_none(value: Any) -> None:
    assert read_reference(value) is None


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
def test_every_reference_is_found_and_replaced(values: dict[str, Any]) -> None:
    before = list(references(values))
    assert len(before) == str(values).count("'$file'")
    found = with_files(values, lambda file: f"https://files.example/{file.size}")
    assert "$file" not in str(found)
    assert str(found).count("https://files.example/7") == len(before)


def test_an_input_without_files_is_itself() -> None:
    values = {"prompt": "cat", "options": [{"a": 1}]}
    assert with_files(values, lambda _: None) is values
