"""Secret inputs: `{"$env": "NAME"}` stands for a variable of the worker's environment. Only the reference is stored.

`{"$secret": VALUE}` is a literal secret in a batch's copy and in payloads, as `--allow-literal-secrets` lets it be;
nothing that is shown or kept besides has it. Replicate redacts inputs that a schema marks as secret (changelog of
2024-06-07), so neither kind is ever compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from jobs.errors import BatchError, MissingSecret

KEY = "$env"
LITERAL = "$secret"

REDACTED = "[REDACTED]"
"""What is shown in the place of a literal secret, as Replicate does."""

_FACTS = frozenset(("id", "status", "model", "version", "created_at", "started_at", "completed_at"))
"""Fields of a prediction that hold no text of a model: a secret that equals one must not change them."""

SHORTEST_MASKED = 8
"""Characters of a value that is masked wherever it stands: a shorter one may be part of any text."""

_IN_NAME = 12
"""Letters and digits of a secret by which it is found in a name: ids have only the beginning of a long value."""

URL_SHOWN = 200
"""Characters of a URL that errors quote."""

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
    """The keys of an input whose values are secret."""
    return frozenset(key for key, value in values.items() if _is_secret(value))


def with_literals(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """An input with the literal values of these keys marked as secret."""
    return {
        key: {LITERAL: value} if key in keys and value and not _is_secret(value) else value
        for key, value in values.items()
    }


def with_plain_literals(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """An input as it was written before its literal secrets were marked."""
    return {key: value[LITERAL] if _is_literal(value) else value for key, value in values.items()}


def shown_input(values: Mapping[str, Any]) -> dict[str, Any]:
    """An input as people may see it: with references, but without literal secrets, wherever they stand.

    It does not depend on the environment: what a row repeats of a variable's value stays as its owner wrote it.
    """
    literals = _by_length(_literals(values))
    return {key: _shown(value, literals) for key, value in values.items()}


def reveals_secret(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name has a literal secret of an input in it, if only its letters and digits, as ids have them."""
    plain = _alphanumeric(name)
    found = map(_alphanumeric, _literals(values))
    return any(part[:_IN_NAME] in plain for part in found if len(part) >= SHORTEST_MASKED)


def _alphanumeric(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def without_keys(values: Mapping[str, Any], keys: Collection[str]) -> Mapping[str, Any]:
    """An input as it can be compared: without its secret keys."""
    return {key: value for key, value in values.items() if key not in keys} if keys else values


class Secrets:
    """The variables that inputs may refer to; a worker reads them once, when it starts."""

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        self._environment = {name: value for name, value in environment.items() if value and not _OURS.fullmatch(name)}

    def check(self, values: Mapping[str, Any]) -> MissingSecret | None:
        """Which variables of an input are not set, or have a value that cannot be sent, if any."""
        names = sorted(set(filter(None, map(_name, values.values()))))
        if missing := [name for name in names if name not in self._environment]:
            return MissingSecret(
                f"the worker's environment has no {', '.join(missing)}, which the input refers to{_CURE}"
            )
        if foreign := [name for name in names if not _is_utf_8(self._environment[name])]:
            return MissingSecret(f"in the worker's environment {', '.join(foreign)} is not UTF-8, so not text{_CURE}")
        return None

    def resolve(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The input as it is sent; KeyError when a variable is not set."""
        if not secret_keys(values):
            return values
        return {key: self._value(value) if _is_secret(value) else value for key, value in values.items()}

    def _value(self, secret: Mapping[str, Any]) -> Any:
        return secret[LITERAL] if _is_literal(secret) else self._environment[secret[KEY]]

    def mask(self, value: Any, values: Mapping[str, Any]) -> Any:
        """Any JSON value with the secrets of the input `values` replaced by `$NAME`, wherever they stand."""
        named = {name: self._environment.get(name, "") for name in filter(None, map(_name, values.values()))}
        found = _literals(values)
        found |= {part: f"${name}" for name, secret in named.items() for part in _parts(secret)}
        return _replaced(value, _by_length(found)) if found else value

    def mask_prediction(self, raw: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
        """A prediction as it may be stored: also an API that shows secrets, or an unset variable, reveals none."""
        keys, given = secret_keys(values), raw.get("input")
        if not keys:
            return raw
        masked = {name: item if name in _FACTS else self.mask(item, values) for name, item in raw.items()}
        if isinstance(given, Mapping):
            own = shown_input(values)
            masked["input"] = {key: own[key] if key in keys else self.mask(item, values) for key, item in given.items()}
        return masked

    def mask_error(self, error: BatchError, values: Mapping[str, Any]) -> None:
        """Mask the same in what an error says; a secret may stand where it cut its URL."""
        if not secret_keys(values):
            return
        if isinstance(url := getattr(error, "url", None), str):
            cut, masked = url[:URL_SHOWN], self.mask(url, values)[:URL_SHOWN]
            error.args = tuple(arg.replace(cut, masked) if isinstance(arg, str) else arg for arg in error.args)
        error.args = self.mask(error.args, values)
        for name, value in vars(error).items():
            setattr(error, name, self.mask(value, values))


@dataclass(frozen=True, slots=True)
class Masking:
    """Takes the secrets of one input out of texts."""

    secrets: Secrets
    values: Mapping[str, Any]

    def mask(self, value: Any) -> Any:
        """Any JSON value without them."""
        return self.secrets.mask(value, self.values)

    def mask_prediction(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """A prediction without them."""
        return self.secrets.mask_prediction(raw, self.values)

    def mask_error(self, error: BatchError) -> None:
        """Take them out of what an error says."""
        self.secrets.mask_error(error, self.values)


_CURE = ": set it there or in .env, start the worker again, then `python -m jobs retry`"

NO_SECRETS = Masking(Secrets({}), {})


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_secret(value: Any) -> bool:
    return _is_literal(value) or _name(value) is not None


def _is_literal(value: Any) -> bool:  # `dict` is what JSON gives, and four times as quick to tell as `Mapping`
    return isinstance(value, dict) and len(value) == 1 and LITERAL in value


def _name(value: Any) -> str | None:
    """The name in a reference, None when the value is none."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(name := value.get(KEY), str):
        return name
    return None


def _shown(value: Any, literals: Mapping[str, str]) -> Any:
    if _is_secret(value):
        return REDACTED if _is_literal(value) else value
    return _replaced(value, literals) if literals else value


def _literals(values: Mapping[str, Any]) -> dict[str, str]:
    """The texts that reveal the literal secrets of an input, and what stands in their place."""
    texts = [text for one in values.values() if _is_literal(one) for text in _texts(one[LITERAL])]
    return {part: REDACTED for text in texts for part in _parts(text)}


def _texts(value: Any) -> Iterator[str]:
    """The texts of a secret, which may be a list or an object of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _by_length(parts: Mapping[str, str]) -> Mapping[str, str]:
    """The longest first, as a shorter one may be a part of it."""
    return dict(sorted(parts.items(), key=lambda one: -len(one[0])))


def _parts(secret: str) -> Iterator[str]:
    """The texts that reveal a secret: itself, and as messages, JSON and URLs quote it, in one line or line by line."""
    texts = (secret, secret.strip(), " ".join(secret.split()), *secret.splitlines())
    quoted = [in_url(text, safe="", errors="replace") for text in texts for in_url in (quote, quote_plus)]
    quoted += [json.dumps(text, ensure_ascii=is_ascii)[1:-1] for text in texts for is_ascii in (True, False)]
    return (text for text in (*texts, *quoted, *(repr(text)[1:-1] for text in texts)) if len(text) >= SHORTEST_MASKED)


def _replaced(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _without_cut(_all_replaced(value, secrets), secrets)
    if isinstance(value, Mapping):
        return {_replaced(key, secrets): _replaced(item, secrets) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    found = [_replaced(item, secrets) for item in value]
    return _joined(found, secrets) if isinstance(value, list) else tuple(found)


def _joined(items: list[Any], secrets: Mapping[str, str]) -> list[Any]:
    """The items; tokens of a text are one token when a secret is spread over several of them."""
    if len(items) < 2 or not all(isinstance(item, str) for item in items):
        return items
    text = "".join(items)
    whole = _all_replaced(text, secrets)
    return items if whole == text else [whole]


def _all_replaced(text: str, secrets: Mapping[str, str]) -> str:
    for secret, name in secrets.items():
        text = text.replace(secret, name)
    return text


def _without_cut(text: str, secrets: Mapping[str, str]) -> str:
    """Replace the beginning of a secret at the end of a text that was cut there."""
    whole = text.rstrip("… ")
    for secret, name in secrets.items():
        beginning = secret[:SHORTEST_MASKED]
        start = whole.find(beginning, max(len(whole) - len(secret) + 1, 0))
        while start >= 0:
            if secret.startswith(whole[start:]):
                return f"{whole[:start]}{name}{text[len(whole) :]}"
            start = whole.find(beginning, start + 1)
    return text
