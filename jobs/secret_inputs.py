"""Secret inputs: `{"$env": "NAME"}` stands for a variable of the worker's environment. Only the reference is stored.

Replicate redacts inputs that a schema marks as secret (changelog of 2024-06-07), so they are never compared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jobs.errors import BatchError, MissingSecret

KEY = "$env"

SHORTEST_MASKED = 8
"""Characters of a value that is masked wherever it stands: a shorter one may be part of any text."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = re.compile(r"REPLICATE_API_TOKEN|REDIS_URL|BATCH_\w*", re.IGNORECASE)


def reference_problem(value: Any) -> str | None:
    """What is wrong with an object that has the key `$env`; None when it is a reference."""
    if len(value) != 1 or not isinstance(value[KEY], str) or not _NAME.fullmatch(value[KEY]):
        return f'{{"{KEY}": "NAME"}} has the name of an environment variable and nothing else in it'
    if _OURS.fullmatch(value[KEY]):
        return f"{value[KEY]} is a setting of this tool, and is never sent as an input"
    return None


def secret_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The keys of an input whose values hold a reference."""
    return frozenset(key for key, value in values.items() if any(_names(value)))


def without_keys(values: Mapping[str, Any], keys: Collection[str]) -> Mapping[str, Any]:
    """An input as it can be compared: without its secret keys."""
    return {key: value for key, value in values.items() if key not in keys} if keys else values


class Secrets:
    """The variables that inputs may refer to; a worker reads them once, when it starts."""

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        self._environment = {name: value for name, value in environment.items() if value}

    def check(self, values: Mapping[str, Any]) -> MissingSecret | None:
        """Which variables of an input are not set, if any."""
        if missing := sorted({name for name in _names(values) if name not in self._environment}):
            return MissingSecret(
                f"the worker's environment has no {', '.join(missing)}, which the input refers to: set it there or in "
                ".env, start the worker again, then `python -m jobs retry`"
            )
        return None

    def resolve(self, value: Any) -> Any:
        """The input as it is sent; KeyError when a variable is not set."""
        if isinstance(value, Mapping):
            name = _name(value)
            return self._environment[name] if name else {key: self.resolve(item) for key, item in value.items()}
        return [self.resolve(item) for item in value] if isinstance(value, list) else value

    def mask(self, value: Any, values: Mapping[str, Any]) -> Any:
        """Any JSON value with the secrets of the input `values` replaced by `$NAME`, wherever they stand."""
        named = {self._environment.get(name, ""): name for name in _names(values)}
        found = {secret: name for secret, name in named.items() if len(secret) >= SHORTEST_MASKED}
        return _replaced(value, found) if found else value

    def mask_error(self, error: BatchError, values: Mapping[str, Any]) -> None:
        """Mask the same in what an error says."""
        error.args = self.mask(error.args, values)
        for name, value in vars(error).items():
            setattr(error, name, self.mask(value, values))


def _name(value: Mapping[str, Any]) -> str | None:
    return value[KEY] if len(value) == 1 and isinstance(value.get(KEY), str) else None


def _names(value: Any) -> Iterator[str]:
    """The names of all variables that a value refers to."""
    if isinstance(value, Mapping):
        if name := _name(value):
            yield name
        else:
            for item in value.values():
                yield from _names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


def _replaced(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):
            value = value.replace(secret, f"${secrets[secret]}")
        return value
    if isinstance(value, Mapping):
        return {_replaced(key, secrets): _replaced(item, secrets) for key, item in value.items()}
    return type(value)(_replaced(item, secrets) for item in value) if isinstance(value, list | tuple) else value
