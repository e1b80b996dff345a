"""Schemas of inputs: as Cog writes them, and what is wrong with a value, in the words of the API."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

Fault = dict[str, str]

_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int, float),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_GIVEN = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def cog_schema(inputs: dict[str, dict[str, Any]], output: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of a model: an enumeration is a schema of its own, which `allOf` refers to."""
    schemas: dict[str, Any] = {}
    properties = {name: _property(name, schema, schemas) for name, schema in inputs.items()}
    for order, schema in enumerate(properties.values()):
        schema["x-order"] = order
    required = [name for name, schema in inputs.items() if schema.get("required")]
    schemas["Input"] = {"type": "object", "title": "Input", "properties": properties}
    if required:
        schemas["Input"]["required"] = required
    schemas["Output"] = {"title": "Output", **output}
    info = {"title": "Cog", "version": "0.1.0"}
    return {"openapi": "3.0.2", "info": info, "paths": {}, "components": {"schemas": schemas}}


def _property(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in schema.items() if key != "required"}
    if "enum" not in shown:
        return {"title": name.replace("_", " ").title(), **shown}
    kind = {key: shown.pop(key) for key in ("type", "enum") if key in shown}
    schemas[name] = {"title": name, "description": "An enumeration.", **kind}
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}], **shown}


def faults_of(field: str, value: Any, schema: dict[str, Any]) -> list[Fault]:
    """What is wrong with a value; an integer may be written 7.0, and null is no value unless the schema says so."""
    if value is None and schema.get("nullable"):
        return []
    if choices := schema.get("anyOf"):
        faults = [faults_of(field, value, choice) for choice in choices]
        return [] if [] in faults else [_fault("number_any_of", field, "Must validate at least one schema (anyOf)")]
    kind = schema.get("type")
    if kind == "null":
        return [] if value is None else [_fault("invalid_type", field, _expected("null", value))]
    if kind in _TYPES and not _is_of(kind, value):
        return [_fault("invalid_type", field, _expected(kind, value))]
    return [*_faults_of_value(field, value, schema), *_faults_of_items(field, value, schema)]


def _is_of(kind: str, value: Any) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return False
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _faults_of_value(field: str, value: Any, schema: dict[str, Any]) -> list[Fault]:
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(repr(each) for each in schema["enum"])
        return [_fault("enum", field, f"{field.partition('.')[2]} must be one of: {allowed}")]
    if "minimum" in schema and value < schema["minimum"]:
        return [_fault("number_gte", field, f"Must be greater than or equal to {schema['minimum']}")]
    if "maximum" in schema and value > schema["maximum"]:
        return [_fault("number_lte", field, f"Must be less than or equal to {schema['maximum']}")]
    if len(value if isinstance(value, str) else "") > schema.get("maxLength", 10**9):
        return [_fault("string_lte", field, f"String length must be less than or equal to {schema['maxLength']}")]
    if schema.get("format") == "uri" and not urlsplit(value).scheme:
        return [_fault("format", field, "Does not match format 'uri'")]
    return []


def _faults_of_items(field: str, value: Any, schema: dict[str, Any]) -> list[Fault]:
    if not isinstance(value, list) or "items" not in schema:
        return []
    return [fault for i, item in enumerate(value) for fault in faults_of(f"{field}.{i}", item, schema["items"])]


def _expected(kind: str, value: Any) -> str:
    return f"Invalid type. Expected: {kind}, given: {_GIVEN.get(type(value), 'null')}"


def _fault(kind: str, field: str, description: str) -> Fault:
    return {"type": kind, "field": field, "description": description}
