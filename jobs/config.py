"""The configuration: one frozen value, read once from the environment and .env."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.errors import ConfigError
from jobs.model_limits import ModelLimits
from jobs.prices.setting import Prices

REPLICATE_URL = "https://api.replicate.com"
REPLICATE_HOSTS = ("replicate.delivery", "*.replicate.delivery")
PAGES_URL = "https://replicate.com"
Positive = Annotated[int, Field(gt=0)]
Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[?[0-9a-f:]+\]?")


_PLAIN = ("REPLICATE_API_TOKEN", "REPLICATE_BASE_URL", "REDIS_URL")
_QUOTED = re.compile(r"""\s*(["'])(.*)\1\s*""", re.DOTALL)
_TOKEN = re.compile(r"r8_\w+")
"""A token of Replicate, which may have been pasted into the wrong line."""

MOST_SHOWN = 200
"""Characters of a wrong value that are shown."""


def _unprefixed(name: str) -> Any:
    return Field(validation_alias=AliasChoices(name, name.lower()))


class Config(BaseSettings):
    """All settings; names in the environment have the prefix `BATCH_` but for the first three.

    Read it with `Config.load()`, which raises ConfigError with a sentence for each wrong setting.
    """

    model_config = SettingsConfigDict(
        env_prefix="BATCH_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    replicate_api_token: Annotated[SecretStr | None, _unprefixed("REPLICATE_API_TOKEN")] = None
    replicate_base_url: Annotated[str, _unprefixed("REPLICATE_BASE_URL")] = REPLICATE_URL
    redis_url: Annotated[SecretStr | None, _unprefixed("REDIS_URL")] = None
    redis_dir: Path = Path(".redis")
    output_dir: Path = Path("outputs")
    model: str | None = None
    creates_per_minute: Rate = 600
    reads_per_minute: Rate = 3000
    max_in_flight: Positive = 1000
    max_downloads: Positive = 32
    max_attempts: Positive = 3
    poll_interval: Annotated[float, Field(gt=0, le=60)] = 0.5
    deadline: Annotated[int, Field(ge=5, le=86_400)] = 1800
    prefer_wait: Annotated[int, Field(ge=0, le=60)] = 0
    use_file_output: bool = True
    output_hosts: Annotated[tuple[str, ...], NoDecode] = REPLICATE_HOSTS
    lease: Annotated[float, Field(ge=0.5, le=600)] = 15
    breaker_failures: Annotated[float, Field(gt=0, le=1)] = 0.5
    breaker_refusals: Positive = 20
    breaker_pause: Annotated[float, Field(gt=0, le=900)] = 60
    fsync: bool = True
    model_check: bool = True
    model_limits: Annotated[ModelLimits, NoDecode] = ModelLimits()
    prices: Annotated[Prices, NoDecode] = Prices()
    prices_file: Path = Path("prices.toml")
    pages_url: str = PAGES_URL
    schedules: Path = Path("schedules.toml")
    notify: Path = Path("notify.toml")
    max_file_bytes: Positive = 5_000_000_000
    log_format: Annotated[Literal["text", "json"], Lower] = "text"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = "info"
    metrics_port: Annotated[int | None, Field(ge=0, le=65_535)] = None
    metrics_host: str = "127.0.0.1"
    dashboard_token: SecretStr | None = None
    dashboard_dir: Path = Path(".dashboard")

    @model_validator(mode="before")
    @classmethod
    def _unquote(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Remove quotes around a value, which Docker's --env-file keeps; an empty value is not set."""
        plain = {name: unquoted(value) if isinstance(value, str) else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value != "" or values[name] == ""}

    @field_validator("output_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        return (
            tuple(host.strip().lower() for host in value.split(",") if host.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("output_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name; write replicate.delivery or *.replicate.delivery")
        if not hosts:
            raise ValueError("there is no host in it; leave it out for Replicate's own")
        return hosts

    @field_validator("prices", mode="before")
    @classmethod
    def _parse_prices(cls, value: Any) -> Any:
        return Prices.parse(value) if isinstance(value, str) else value

    @field_validator("model_limits", mode="before")
    @classmethod
    def _parse_model_limits(cls, value: Any) -> Any:
        return ModelLimits.parse(value) if isinstance(value, str) else value

    @field_validator("replicate_base_url", "pages_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            shown = f"//…@{value.rpartition('@')[2]}" if "@" in value else value
            raise ValueError(f"{shown!r} is not an http or https URL")
        if parts.username or parts.query or parts.fragment or (parts.port or 1) > 65_535:
            raise ValueError("write scheme, host and port only, as in https://api.replicate.com")
        return value.rstrip("/").removesuffix("/v1")

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            _check_redis_url(value.get_secret_value())
        return value

    @property
    def api_host(self) -> str:
        """The API host: its queue, limits and claims are apart from those of any other host."""
        return urlsplit(self.replicate_base_url).netloc.rpartition("@")[2]

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; ConfigError names each wrong setting as the user wrote it."""
        try:
            wrong, config = _misspelt(cls), None
            try:
                config = cls(**overrides)
            except ValidationError as error:
                wrong += [_sentence(problem) for problem in error.errors()]
        except UnicodeDecodeError as error:
            raise ConfigError(f".env is not UTF-8: {error}") from None
        if config is None or wrong:
            raise ConfigError(_TOKEN.sub("r8_…", "\n".join(wrong)))
        return config


def read_environment() -> dict[str, str | None]:
    """All variables, those of .env included: inputs may refer to them."""
    return {**dotenv_values(".env"), **os.environ}


def export_variables(prefix: str) -> dict[str, str]:
    """Put the variables of .env with this prefix where libraries read them; returns all that have it."""
    found = {name: value for name, value in read_environment().items() if name.startswith(prefix) and value is not None}
    os.environ.update(found)
    return found


def quoted_settings() -> list[str]:
    """The settings in the environment with quotes around their value."""
    ours = {name: value for name, value in {**os.environ}.items() if name.startswith("BATCH_") or name in _PLAIN}
    return sorted(name for name, value in ours.items() if unquoted(value) != value)


def unquoted(value: str) -> str:
    """The value without the quotes around it."""
    found = _QUOTED.fullmatch(value)
    return found[2] if found else value


def _check_redis_url(url: str) -> None:
    """Raise ValueError for an invalid Redis URL; no message repeats any of it, as it may hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("the URL must begin with redis://, rediss:// or unix://")
    if parts.fragment or url.endswith("#"):
        raise ValueError(
            "there is a # in the URL, where it would end; in a password it is written %23, as each special character "
            "is percent-encoded: @ %40, : %3A, / %2F, ? %3F, % %25"
        )
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError("what follows the host is the number of a database, as in redis://host:6379/0")


def _misspelt(config: type[BaseSettings]) -> list[str]:
    """A sentence for each variable that is almost a setting: a misspelt limit would not be enforced."""
    known = [f"BATCH_{field.upper()}" for field in config.model_fields]
    suspects = sorted(name for name in read_environment() if name.startswith("BATCH_") and name not in known)
    found = ((name, get_close_matches(name, known, n=1, cutoff=0.85)) for name in suspects)
    return [f"{name} is not a setting; did you mean {close[0]}?" for name, close in found if close]


def _sentence(problem: Any) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else "settings"
    plain = field.upper() in _PLAIN
    name = field.upper() if plain else f"BATCH_{field.upper()}"
    shown = "" if plain else f" (it is {_short(repr(problem['input']))})"
    message = problem["msg"].removeprefix("Value error, ").partition(", unable to")[0]
    return f"{name}{shown}: {message.replace('Input should', 'it should')}"


def _short(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
