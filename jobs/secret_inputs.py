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


def reference_problem(value: Mapping[str, Any]) -> str | None:
    """What is wrong with an object that has the key `$env`; None when it is a reference."""
    if not (name := _name(value)) or not _NAME.fullmatch(name):
        return f'{{"{KEY}": "NAME"}} has the name of an environment variable and nothing else in it'
    if _OURS.fullmatch(name):
        return f"{name} is a setting of this tool, and is never sent as an input"
    return None


def secret_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The keys of an input whose values are references."""
    return frozenset(key for key, value in values.items() if _name(value))


def without_keys(values: Mapping[str, Any], keys: Collection[str]) -> Mapping[str, Any]:
    """An input as it can be compared: without its secret keys."""
    return {key: value for key, value in values.items() if key not in keys} if keys else values


class Secrets:
    """The variables that inputs may refer to; a worker reads them once, when it starts."""

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        self._environment = {name: value for name, value in environment.items() if value and not _OURS.fullmatch(name)}

    def check(self, values: Mapping[str, Any]) -> MissingSecret | None:
        """Which variables of an input are not set, if any."""
        if missing := sorted({name for name in map(_name, values.values()) if name and name not in self._environment}):
            return MissingSecret(
                f"the worker's environment has no {', '.join(missing)}, which the input refers to: set it there or in "
                ".env, start the worker again, then `python -m jobs retry`"
            )
        return None

    def resolve(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The input as it is sent; KeyError when a variable is not set."""
        if not secret_keys(values):
            return values
        return {key: self._environment[name] if (name := _name(value)) else value for key, value in values.items()}

    def mask(self, value: Any, values: Mapping[str, Any]) -> Any:
        """Any JSON value with the secrets of the input `values` replaced by `$NAME`, wherever they stand."""
        found = {
            part: f"${name}"
            for name in filter(None, map(_name, values.values()))
            for part in _parts(self._environment.get(name, ""))
        }
        return _replaced(value, dict(sorted(found.items(), key=lambda one: -len(one[0])))) if found else value

    def mask_prediction(self, raw: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
        """A prediction as it may be stored: also an API that shows secrets, or an unset variable, reveals none."""
        keys, shown = secret_keys(values), raw.get("input")
        if not keys:
            return raw
        if isinstance(shown, Mapping):
            raw = {**raw, "input": {key: values[key] if key in keys else item for key, item in shown.items()}}
        masked: Mapping[str, Any] = self.mask(raw, values)
        return masked

    def mask_error(self, error: BatchError, values: Mapping[str, Any]) -> None:
        """Mask the same in what an error says."""
        error.args = self.mask(error.args, values)
        for name, value in vars(error).items():
            setattr(error, name, self.mask(value, values))


def _name(value: Any) -> str | None:
    """The name in a reference, None when the value is none."""
    if isinstance(value, Mapping) and len(value) == 1 and isinstance(name := value.get(KEY), str):
        return name
    return None


def _parts(secret: str) -> Iterator[str]:
    """The texts that reveal a secret: itself, and as messages quote it, in one line or line by line."""
    texts = (secret, secret.strip(), " ".join(secret.split()), *secret.splitlines())
    return (text for text in texts if len(text) >= SHORTEST_MASKED)


def _replaced(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _without_cut(_all_replaced(value, secrets), secrets)
    if isinstance(value, Mapping):
        return {_replaced(key, secrets): _replaced(item, secrets) for key, item in value.items()}
    return type(value)(_replaced(item, secrets) for item in value) if isinstance(value, list | tuple) else value


def _all_replaced(text: str, secrets: Mapping[str, str]) -> str:
    for secret, name in secrets.items():
        text = text.replace(secret, name)
    return text


def _without_cut(text: str, secrets: Mapping[str, str]) -> str:
    """Replace the beginning of a secret at the end of a text that was cut there."""
    whole = text.rstrip("… ")
    for secret, name in secrets.items():
        for size in range(len(secret) - 1, SHORTEST_MASKED - 1, -1):
            if whole.endswith(secret[:size]):
                return f"{whole[:-size]}{name}{text[len(whole) :]}"
    return text
