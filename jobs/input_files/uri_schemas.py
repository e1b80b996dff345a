"""Where the schema of a model's input wants the URL of a file, in any of the forms that Cog writes.

A schema without one, or that is not known, is an empty object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

UNKNOWN: Schema = {}

_CHOICES = ("anyOf", "oneOf", "allOf")


def takes_file(schema: Schema) -> bool:
    """Whether a value may be the URL of a file."""
    return any(one.get("format") == "uri" for one in _branches(schema))


def takes_files(schema: Schema) -> bool:
    """Whether a value may be such a URL, or a list of them."""
    return takes_file(schema) or takes_file(schema_of_items(schema))


def takes_text(schema: Schema) -> bool:
    """Whether a value may be any other text, too."""
    leaves = (one for one in _branches(schema) if not any(choice in one for choice in _CHOICES))
    return any(one.get("type", "string") == "string" and "format" not in one and "enum" not in one for one in leaves)


def schema_of_items(schema: Schema) -> Schema:
    """The schema of what is in a list."""
    return _either([one.get("items") for one in _branches(schema)])


def schema_of_property(schema: Schema, key: str) -> Schema:
    """The schema of a key of an object."""
    found = [one.get("properties") for one in _branches(schema)]
    return _either([each.get(key) for each in found if isinstance(each, dict)])


def _branches(schema: Schema) -> Iterator[Schema]:
    yield schema
    for choice in _CHOICES:
        for one in schema[choice] if isinstance(schema.get(choice), list) else ():
            if isinstance(one, dict):
                yield from _branches(one)


def _either(schemas: list[Any]) -> Schema:
    known = [one for one in schemas if isinstance(one, dict)]
    return known[0] if len(known) == 1 else {"anyOf": known} if known else UNKNOWN
