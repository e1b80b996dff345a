from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.catalog.input_schema import InputSchema
from jobs.catalog.references import MOST_NODES, input_schema
from simulator.models.registry import MODELS

REF = "#/components/schemas/"


def document(schema: Any, **others: Any) -> dict[str, Any]:
    return {"components": {"schemas": {"Input": schema, **others}}}


@pytest.mark.parametrize(
    ("schema", "others", "expected"),
    [
        ({"properties": {"a": {"type": "string"}}}, {}, {"properties": {"a": {"type": "string"}}}),
        (
            {"properties": {"a": {"allOf": [{"$ref": f"{REF}a"}], "default": "x", "x-order": 1}}},
            {"a": {"enum": ["x", "y"], "type": "string", "title": "a"}},
            {"properties": {"a": {"enum": ["x", "y"], "type": "string", "title": "a", "default": "x", "x-order": 1}}},
        ),
        (
            {"properties": {"a": {"type": "array", "items": {"$ref": f"{REF}one"}}}},
            {"one": {"$ref": f"{REF}two"}, "two": {"type": "integer"}},
            {"properties": {"a": {"type": "array", "items": {"type": "integer"}}}},
        ),
        ({"properties": {"a": {"$ref": f"{REF}nowhere"}}}, {}, {"properties": {"a": {}}}),
        ({"properties": {"a": {"$ref": "https://example.com/a"}}}, {}, {"properties": {"a": {}}}),
        ({"properties": {"a": {"$ref": 7}}}, {}, {"properties": {"a": {}}}),
        (
            {"properties": {"a": {"$ref": f"{REF}a~1b"}}},
            {"a/b": {"type": "null"}},
            {"properties": {"a": {"type": "null"}}},
        ),
        ({"properties": {"a": True, "b": None}}, {}, {"properties": {"a": {}, "b": {}}}),
    ],
)
def test_what_is_referred_to_stands_in_its_place(schema: Any, others: dict[str, Any], expected: Any) -> None:
    assert input_schema(document(schema, **others)) == expected


@pytest.mark.parametrize("broken", [None, {}, [], "x", {"components": None}, document(None), document([])])
def test_a_document_without_input_has_no_schema(broken: Any) -> None:
    assert input_schema(broken) is None


def test_a_circle_of_references_allows_anything() -> None:
    found = input_schema(MODELS["simulator/circular"].openapi_schema())
    assert found
    assert found["properties"]["loop"] == {}
    assert found["properties"]["next"]["items"] == {}
    assert InputSchema(found).is_valid({"loop": [1], "next": [7], "text": "x"})
    assert not InputSchema(found).is_valid({"text": 7}), "what is no circle is checked"


def test_references_that_multiply_end() -> None:
    schemas = {f"s{n}": {"properties": {k: {"$ref": f"{REF}s{n + 1}"} for k in "abcdefgh"}} for n in range(30)}
    found = input_schema(document({"properties": {"x": {"$ref": f"{REF}s0"}}}, **schemas))
    assert str(found).count("{") < 4 * MOST_NODES


KEYWORDS = [
    "type", "properties", "items", "allOf", "anyOf", "enum", "$ref", "minimum", "maximum", "nullable", "pattern",
    "required", "minLength", "exclusiveMinimum", "format", "additionalProperties", "multipleOf", "a",
]  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["string", "integer", f"{REF}Input", f"{REF}A", "("]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, JSON)
@example({"type": [[]]}, None)
def test_any_document_becomes_a_schema_that_can_be_used(schema: Any, other: Any) -> None:
    """Nothing that a stranger writes into a schema ends a command."""
    found = input_schema(document(schema, A=other))
    if found is not None:
        checked = InputSchema(found)
        checked.is_valid({"a": 1})
        list(checked.errors({"a": "x", "b": None}))
        assert checked.types("a")
        assert checked.is_secret("a") in (True, False)
