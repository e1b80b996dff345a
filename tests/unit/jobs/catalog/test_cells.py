from __future__ import annotations

from typing import Any

import pytest

from jobs.catalog.cells import read_cell

TEXT, INTEGER, NUMBER, BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
LIST, OBJECT = {"type": "array"}, {"type": "object"}
GUESS = object()


@pytest.mark.parametrize(
    ("cell", "schema", "value"),
    [
        ("007", TEXT, "007"),
        (" 7.50 ", TEXT, " 7.50 "),
        ("TRUE", TEXT, "TRUE"),
        ("1e3", TEXT, "1e3"),
        ("7", INTEGER, 7),
        ("007", INTEGER, 7),
        ("7.0", INTEGER, 7),
        ("1e3", INTEGER, 1000),
        (" +7 ", INTEGER, 7),
        ("7.5", INTEGER, GUESS),
        ("seven", INTEGER, GUESS),
        ("1e999", INTEGER, GUESS),
        ("7", NUMBER, 7),
        (".5", NUMBER, 0.5),
        ("-0.5", NUMBER, -0.5),
        ("1,5", NUMBER, GUESS),
        ("TRUE", BOOLEAN, True),
        ("False", BOOLEAN, False),
        ("1", BOOLEAN, GUESS),
        ('["a", "b"]', LIST, ["a", "b"]),
        ('{"a": 1}', LIST, GUESS),
        ("[1, NaN]", LIST, GUESS),
        ("[" * 100_000, LIST, GUESS),
        ('{"a": 1}', OBJECT, {"a": 1}),
        ("a, b", LIST, GUESS),
        ("007", {"type": "string", "enum": ["007", "008"]}, "007"),
        ("512", {"type": "integer", "enum": [256, 512]}, 512),
        ("512.0", {"type": "integer", "enum": [256, 512]}, 512),
        ("null", {"type": "integer", "nullable": True}, None),
        ("null", {"type": "string", "nullable": True}, "null"),
        ("7", {"anyOf": [INTEGER, {"type": "null"}]}, 7),
        ("x", {"anyOf": [INTEGER, TEXT]}, "x"),
        ("7", {}, GUESS),
        ("7", None, GUESS),
    ],
)
def test_a_cell_is_read_as_its_key_wants(cell: str, schema: Any, value: Any) -> None:
    found = read_cell(cell, GUESS, schema)
    assert (found, type(found)) == (value, type(value))
