"""A model as the API described it when a batch named it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.catalog.input_schema import InputSchema
from jobs.wire import canonical_json


@dataclass(frozen=True)
class Model:
    """What a row's model is; `looked_up` is in Unix seconds.

    `name` is as rows say it: owner/name, owner/name:version, a version or deployments/owner/name. `schema` is its
    `Input`, without references; None when the API shows none: then `unchecked` says why.
    """

    name: str
    version: str | None
    official: bool
    schema: dict[str, Any] | None
    looked_up: float
    unchecked: str | None = None

    @cached_property
    def pinned(self) -> str:
        """How a batch names it: a community model runs only by its version, all others by their own name."""
        by_name = "/" in self.name and ":" not in self.name and not self.name.startswith("deployments/")
        return f"{self.name}:{self.version}" if by_name and not self.official and self.version else self.name

    @property
    def digest(self) -> str | None:
        """The digest of the schema."""
        if self.schema is None:
            return None
        return f"sha256:{hashlib.sha256(canonical_json(self.schema).encode('utf-8', 'surrogatepass')).hexdigest()}"

    @cached_property
    def input(self) -> InputSchema | None:
        """What rows are checked against."""
        return None if self.schema is None else InputSchema(self.schema)


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that cannot be used: `reason` says why, `instead` which one may be meant."""

    name: str
    reason: str
    instead: str | None = None

    @property
    def sentence(self) -> str:
        """What is wrong, for people."""
        return f"{self.name}: {self.reason}{f'; did you mean {self.instead}?' if self.instead else ''}"
