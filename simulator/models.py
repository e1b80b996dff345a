"""What a model is: its name, its input's schema and what it makes of an input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.problems import invalid

Read = Callable[[str], bytes | None]
"""The bytes behind a URL or data: URI of an input; None when there are none."""


@dataclass(frozen=True, slots=True)
class File:
    """A leaf of an output: a file that is drawn when somebody asks for it; quick if its md5 is known."""

    name: str
    content_type: str
    draw: Callable[[Read], bytes]
    md5: Callable[[], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a prediction ends other than well; `error` may be null."""

    status: str
    error: str | None


def _no_trouble(_values: dict[str, Any], _earlier: int, _read: Read) -> Ending | None:
    return None


COMMON_INPUTS: dict[str, dict[str, Any]] = {
    "seed": {"type": "integer", "description": "Same input and seed, same bytes"},
    "predict_time": {"type": "number", "minimum": 0, "description": "Seconds that the run takes"},
    "queue_time": {"type": "number", "minimum": 0, "description": "Seconds before the run begins"},
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry; `make` gets a checked input with defaults and a seed of its own."""

    owner: str
    name: str
    description: str
    inputs: dict[str, dict[str, Any]]
    output: dict[str, Any]
    make: Callable[[dict[str, Any], str], Any]
    trouble: Callable[[dict[str, Any], int, Read], Ending | None] = _no_trouble
    official: bool = True
    slow: bool = False
    cost: float = 0.003
    version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", hashlib.sha256(self.full_name.encode()).hexdigest())

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def iterates(self) -> bool:
        """Whether its output grows while it runs."""
        return self.output.get("x-cog-array-type") == "iterator"

    def check(self, values: Any) -> dict[str, Any]:
        """The input as it came, Problem 422 if the schema forbids it."""
        if not isinstance(values, dict):
            raise invalid([{"type": "invalid_type", "field": "input", "description": "Invalid type. Expected: object"}])
        wrong = []
        for name, schema in (COMMON_INPUTS | self.inputs).items():
            if values.get(name) is not None:
                wrong += _faults_of(name, values[name], schema)
            elif schema.get("required"):
                wrong.append({"type": "required", "field": "input", "description": f"{name} is required"})
        if wrong:
            raise invalid(wrong)
        return values

    def filled(self, values: dict[str, Any]) -> dict[str, Any]:
        """The input with the schema's defaults."""
        defaults = {name: schema["default"] for name, schema in self.inputs.items() if "default" in schema}
        return defaults | {name: value for name, value in values.items() if value is not None}

    def openapi_schema(self) -> dict[str, Any]:
        """The schema as the API shows it, with `Input` and `Output`."""
        schemas = COMMON_INPUTS | self.inputs
        shown = {
            name: {key: value for key, value in schema.items() if key != "required"} for name, schema in schemas.items()
        }
        properties = {
            name: {"title": name, "x-order": order, **schema} for order, (name, schema) in enumerate(shown.items())
        }
        required = [name for name, schema in self.inputs.items() if schema.get("required")]
        taken = {"type": "object", "title": "Input", "properties": properties}
        return {
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "paths": {},
            "components": {
                "schemas": {
                    "Input": taken | ({"required": required} if required else {}),
                    "Output": {"title": "Output", **self.output},
                }
            },
        }


_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
}


def _faults_of(name: str, value: Any, schema: dict[str, Any]) -> list[dict[str, str]]:
    kind = schema.get("type")
    if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [{"type": "invalid_type", "field": f"input.{name}", "description": f"Invalid type. Expected: {kind}"}]
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(repr(each) for each in schema["enum"])
        return [{"type": "enum", "field": f"input.{name}", "description": f"{name} must be one of: {allowed}"}]
    if "minimum" in schema and value < schema["minimum"]:
        text = f"Must be greater than or equal to {schema['minimum']}"
        return [{"type": "number_gte", "field": f"input.{name}", "description": text}]
    if "maximum" in schema and value > schema["maximum"]:
        text = f"Must be less than or equal to {schema['maximum']}"
        return [{"type": "number_lte", "field": f"input.{name}", "description": text}]
    return []
