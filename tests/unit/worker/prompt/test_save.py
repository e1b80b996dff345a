"""A prompt's record on disk: one JSON text, whatever the API answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.wire import Failure, Result, SavedFile
from worker.prompt.save import encode_record

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def result(**fields: Any) -> Result:
    return Result(id="a", index=0, status="succeeded", model="owner/name", **({"input": {}} | fields))


@given(st.dictionaries(st.text(), values), values, values)
def test_a_record_says_what_the_result_and_the_prediction_do(given: dict[str, Any], output: Any, raw: Any) -> None:
    file = SavedFile(path="a/output.png", url="https://x.y/z", bytes=1, sha256="0" * 64)
    error = Failure(kind="internal", message="no")
    written = result(input=given, output=output, files=(file,), error=error)
    expected = written.model_dump(mode="json") | {"prediction": raw}
    assert json.loads(encode_record(written, raw)) == expected


def deep(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("raw", [deep(5), deep(300), {"key": deep(400)}])
def test_a_record_may_be_nested_deeply(raw: Any) -> None:
    assert json.loads(encode_record(result(), raw))["prediction"] == raw


@pytest.mark.parametrize("raw", ["\ud800", ["a", "\udfff b"], {"\ud83d": 1}])
def test_half_a_character_becomes_a_question_mark(raw: Any) -> None:
    text = encode_record(result(output="é"), raw).decode()
    assert json.loads(text)["output"] == "é"
    assert "?" in text
