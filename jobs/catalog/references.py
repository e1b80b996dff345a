"""A model's OpenAPI document becomes the schema of its input: without references, enumerations in their places."""

from __future__ import annotations

from typing import Any

MOST_NODES = 20_000
"""Schemas in one schema: references that multiply would fill the memory."""

DEEPEST = 64

_LISTS = ("anyOf", "oneOf", "allOf")
_MAPS = ("properties",)
_SINGLE = ("items", "additionalProperties", "not")


def input_schema(document: Any) -> dict[str, Any] | None:
    """Return `components.schemas.Input` with what it refers to; None when there is none.

    A reference that leads in a circle, or nowhere, is a schema that allows anything.
    """
    try:
        found = document["components"]["schemas"]["Input"]
    except (KeyError, TypeError):
        return None
    if not isinstance(found, dict):
        return None
    return _Resolver(document).resolve(found, ("#/components/schemas/Input",))


class _Resolver:
    def __init__(self, document: Any) -> None:
        self._document = document
        self._nodes = 0

    def resolve(self, schema: Any, trail: tuple[str, ...]) -> dict[str, Any]:
        """The schema with its references in place; `trail` are those that led here."""
        self._nodes += 1
        if not isinstance(schema, dict) or self._nodes > MOST_NODES or len(trail) > DEEPEST:
            return {}
        own = {key: self._part(key, value, trail) for key, value in schema.items() if key != "$ref"}
        if "$ref" in schema:
            return self._target(schema["$ref"], trail) | own
        choices = own.get("allOf")
        if isinstance(choices, list) and len(choices) == 1:
            return {**choices[0], **{key: value for key, value in own.items() if key != "allOf"}}
        return own

    def _target(self, reference: Any, trail: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(reference, str) or not reference.startswith("#/") or reference in trail:
            return {}
        found = self._document
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                return {}
            found = found[name]
        return self.resolve(found, (*trail, reference))

    def _part(self, key: str, value: Any, trail: tuple[str, ...]) -> Any:
        deeper = (*trail, "")
        if key in _LISTS and isinstance(value, list):
            return [self.resolve(one, deeper) for one in value]
        if key in _MAPS and isinstance(value, dict):
            return {name: self.resolve(one, deeper) for name, one in value.items()}
        if key in _SINGLE and isinstance(value, dict):
            return self.resolve(value, deeper)
        return value
