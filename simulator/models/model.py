"""What a model is: its name, its input's schema and what it makes of an input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from simulator.answers import invalid
from simulator.models.cog_schema import cog_schema, faults_of

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


def _never_fails(_values: dict[str, Any], _earlier: int, _read: Read) -> Ending | None:
    return None


def _nothing_else(_values: dict[str, Any]) -> dict[str, Any]:
    return {}


COMMON_INPUTS: dict[str, dict[str, Any]] = {
    "seed": {"type": "integer", "description": "Same input and seed, same bytes"},
    "predict_time": {"type": "number", "minimum": 0, "description": "Seconds that the run takes"},
    "queue_time": {"type": "number", "minimum": 0, "description": "Seconds before the run begins"},
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry; `make` gets a checked input with defaults and a seed of its own.

    `private`: this account does not see it; not `published`: it has no version yet. `shown_schema` is what the API says
    of it in place of the inputs that it checks.
    Its public page shows the `tiers` of a rate card or a `price_text`; `measure` gives what is counted of a success.
    """

    owner: str
    name: str
    description: str
    inputs: dict[str, dict[str, Any]]
    output: dict[str, Any]
    make: Callable[[dict[str, Any], str], Any]
    trouble: Callable[[dict[str, Any], int, Read], Ending | None] = _never_fails
    official: bool = True
    private: bool = False
    published: bool = True
    shown_schema: dict[str, Any] | None = None
    slow: bool = False
    cost: float = 0.003
    tiers: list[dict[str, Any]] = field(default_factory=list)
    price_text: str = ""
    measure: Callable[[dict[str, Any]], dict[str, Any]] = _nothing_else
    version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", self.release(0))

    def release(self, number: int) -> str:
        """The id of its first version, or of one that was published later."""
        text = f"{self.full_name} {number}" if number else self.full_name
        return hashlib.sha256(text.encode()).hexdigest()

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
            if name in values:
                wrong += faults_of(f"input.{name}", values[name], schema)
            elif schema.get("required"):
                wrong.append({"type": "required", "field": "input", "description": f"{name} is required"})
        if wrong:
            raise invalid(wrong)
        return values

    def filled(self, values: dict[str, Any]) -> dict[str, Any]:
        """The input with the schema's defaults."""
        defaults = {name: schema["default"] for name, schema in self.inputs.items() if "default" in schema}
        return defaults | {name: value for name, value in values.items() if value is not None}

    def uris(self, values: dict[str, Any]) -> Iterator[str]:
        """Every text of an input that the schema calls a URI."""
        for name, value in values.items():
            if _takes_uris(self.inputs.get(name, {})):
                yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))

    def openapi_schema(self) -> dict[str, Any]:
        """The schema as the API shows it, with `Input` and `Output`."""
        return self.shown_schema or cog_schema(COMMON_INPUTS | self.inputs, self.output)


def _takes_uris(schema: dict[str, Any]) -> bool:
    parts = (*schema.get("anyOf", ()), schema.get("items", {}))
    return schema.get("format") == "uri" or any(_takes_uris(part) for part in parts if part)
