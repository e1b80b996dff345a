"""Where a schema wants files, in the forms that Cog writes."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.input_files.uri_schemas import schema_of_items, schema_of_property, takes_file, takes_text

URI: dict[str, Any] = {"type": "string", "format": "uri", "title": "Image"}
NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("schema", "files", "text"),
    [
        (URI, True, False),
        (URI | {"nullable": True}, True, False),
        ({"anyOf": [URI, NULL]}, True, False),
        ({"anyOf": [{"allOf": [URI]}, NULL], "title": "Image"}, True, False),
        ({"anyOf": [URI, {"type": "string"}]}, True, True),
        ({"type": "string"}, False, True),
        ({"type": "string", "enum": ["a.png"]}, False, False),
        ({"type": "array", "items": URI}, False, False),
        ({"type": "integer"}, False, False),
        ({}, False, True),
        ({"anyOf": "odd"}, False, False),
        ({"anyOf": ["odd", URI]}, True, False),
    ],
)
def test_which_values_are_files(schema: dict[str, Any], *, files: bool, text: bool) -> None:
    assert (takes_file(schema), takes_text(schema)) == (files, text)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": URI},
        {"anyOf": [{"type": "array", "items": URI}, NULL]},
        {"anyOf": [{"type": "array", "items": URI}, {"type": "array", "items": NULL}]},
    ],
)
def test_files_in_lists(schema: dict[str, Any]) -> None:
    assert takes_file(schema_of_items(schema))


def test_what_is_not_described_is_unknown() -> None:
    assert schema_of_items({}) == schema_of_items({"items": True}) == schema_of_property({"properties": []}, "a") == {}


def test_files_in_objects() -> None:
    assert takes_file(schema_of_property({"properties": {"face": URI}}, "face"))
