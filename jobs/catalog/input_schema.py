"""The schema of a model's input, ready to check rows: what is known of each key, and a compiled validator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_CHOICES = ("anyOf", "oneOf", "allOf")


class InputSchema:
    """What an input may be. Keywords that are not understood, or wrong in themselves, allow anything."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        properties = schema.get("properties")
        self.properties: dict[str, Any] = properties if isinstance(properties, dict) else {}
        self.known = frozenset(self.properties)
        self.secrets = frozenset(filter(self.is_secret, self.known))
        self.takes_any_key = bool(schema.get("additionalProperties"))
        self._validator, self._list_validator = _lenient(schema)

    def is_valid(self, values: Mapping[str, Any]) -> bool:
        """Whether the values of the keys that are known may be sent."""
        valid: bool = self._validator.is_valid(values)
        return valid

    def are_surely_right(self, inputs: list[dict[str, Any]]) -> bool:
        """Whether all these inputs may be sent, with keys that are known and no secrets."""
        keys = set[str]().union(*inputs)
        known = self.known.issuperset(keys) or self.takes_any_key
        return known and self.secrets.isdisjoint(keys) and bool(self._list_validator.is_valid(inputs))

    def errors(self, values: Mapping[str, Any]) -> Iterable[Any]:
        """What is wrong with them, as the validator says it."""
        found: Iterable[Any] = self._validator.iter_errors(values)
        return found

    def types(self, key: str) -> frozenset[str]:
        """Which types a key may have; all when the schema does not say."""
        return types_of(self.properties.get(key))

    def is_secret(self, key: str) -> bool:
        """Whether the value of a key must not be shown."""
        return _marks_secret(self.properties.get(key))


def _marks_secret(schema: Any) -> bool:
    """Whether a value may be a secret, or have one in it: `Optional[Secret]`, `list[Secret]`."""
    if not isinstance(schema, dict):
        return False
    if schema.get("format") == "password" or schema.get("x-cog-secret"):
        return True
    choices = (subs for choice in _CHOICES if isinstance(subs := schema.get(choice), list))
    return any(map(_marks_secret, (schema.get("items"), *chain.from_iterable(choices))))


def _lenient(schema: Mapping[str, Any]) -> tuple[Any, Any]:
    """Validators of an input and of a list of them, by what can be understood: if nothing can be, only of the keys."""
    try:
        return _validators({**_strict(schema), "type": "object"})
    except ValueError:
        return _validators({"type": "object"})


def _validators(schema: dict[str, Any]) -> tuple[Any, Any]:
    return _compiled(schema), _compiled({"type": "array", "items": schema})


def _compiled(schema: dict[str, Any]) -> Any:
    """A validator; ValueError when the schema is wrong."""
    import jsonschema_rs  # noqa: PLC0415 - a worker starts faster without it

    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, formats={"uri": is_uri}, offline=True)


def types_of(schema: Any) -> frozenset[str]:
    """Which types a value may have by its schema."""
    if not isinstance(schema, dict):
        return TYPES
    found = _own_types(schema)
    for choice in _CHOICES:
        subs = schema.get(choice)
        if isinstance(subs, list) and subs:
            each = [types_of(sub) for sub in subs]
            found &= frozenset.intersection(*each) if choice == "allOf" else frozenset.union(*each)
    return found


def _own_types(schema: Mapping[str, Any]) -> frozenset[str]:
    named = schema.get("type")
    names = named if isinstance(named, list) else [named]
    listed = frozenset(name for name in names if isinstance(name, str)) & TYPES
    return (listed | {"null"} if schema.get("nullable") else listed) or TYPES


def is_uri(text: str) -> bool:
    """Whether a text has a scheme, as the API asks of files; `file:` and drives, as in `c:/`, are of local ones."""
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        return False
    return len(scheme) > 1 and scheme != "file"


def _strict(schema: Any) -> dict[str, Any]:
    """The keywords that are understood and have a sane value; a schema of OpenAPI 3.0 becomes one of JSON Schema."""
    if not isinstance(schema, dict):
        return {}
    found = _numbers(schema) | _parts(schema)
    types = _own_types(schema)
    if types != TYPES:
        found["type"] = sorted(types)
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        found["enum"] = [*schema["enum"], *([None] if schema.get("nullable") else [])]
    if schema.get("format") == "uri":
        found["format"] = "uri"
    if _is_pattern(schema.get("pattern")):
        found["pattern"] = schema["pattern"]
    required = schema.get("required")
    if isinstance(required, list):
        found["required"] = sorted({name for name in required if isinstance(name, str)})
    return found


def _numbers(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: schema[name] for name in _NUMBERS if _is_number(schema.get(name))}
    found |= {name: schema[name] for name in _COUNTS if type(schema.get(name)) is int and schema[name] >= 0}
    if found.get("multipleOf", 1) <= 0:
        del found["multipleOf"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if schema.get(exclusive) is True and bound in found:
            found[exclusive] = found.pop(bound)
    return found


def _parts(schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(properties := schema.get("properties"), dict):
        found["properties"] = {name: _strict(one) for name, one in properties.items()}
    if isinstance(items := schema.get("items"), dict):
        found["items"] = _strict(items)
    for choice in _CHOICES:
        if isinstance(subs := schema.get(choice), list) and subs:
            found[choice] = [_strict(sub) for sub in subs]
    if schema.get("nullable") and any(choice in found for choice in _CHOICES):
        return {"anyOf": [{"type": "null"}, found]}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pattern(pattern: Any) -> bool:
    if not isinstance(pattern, str):
        return False
    try:
        _compiled({"pattern": pattern})
    except ValueError:
        return False
    return True
