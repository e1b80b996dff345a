"""The simulator's settings: one frozen value, from flags and, at run time, from `POST /control/settings`."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

from simulator.answers import Problem

REDACTIONS = ("mask", "absent")
LIMITERS = ("sliding", "fixed", "bucket", "off")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each field is a flag (`limit_creates` is `--limit-creates`); times are in seconds."""

    seed: int | None = _setting(None, "seed of all random numbers; ids stay unique from run to run")
    token: str | None = _setting(None, "the only valid API token (default: any token)")
    sees_models: bool = _setting(default=True, text="false: the token may read no model (404), as one without rights")
    credit: float | None = _setting(None, "dollars left: below 5 the limits shrink, at 0 creates get 402")
    spend_limit: bool = _setting(default=False, text="creates get 402: the monthly spend limit is hit")

    limiter: str = _setting("sliding", f"kind of rate limiter: {', '.join(LIMITERS)}")
    limit_creates: int = _setting(600, "creates in a window")
    limit_gets: int = _setting(60_000, "GETs of /predictions/{id} in a window")
    limit_reads: int = _setting(3000, "other calls in a window")
    limit_window: float = _setting(60.0, "length of the limiter's window")
    limit_burst: int = _setting(60, "size of the token bucket (limiter=bucket)")
    limit_rejected: bool = _setting(default=True, text="rejected calls count against the limit, too")

    predict_min: float = _setting(0.2, "shortest run of a model")
    predict_max: float = _setting(1.0, "longest run of a model")
    queue_min: float = _setting(0.0, "shortest wait before the run")
    queue_max: float = _setting(0.1, "longest wait before the run")
    slow_median: float = _setting(6.0, "median run of simulator/slow (log-normal)")
    slow_sigma: float = _setting(0.6, "spread of simulator/slow (log-normal)")

    loose: float = _setting(0.2, "chance of each looseness of a body: missing keys, nulls, rewritten names")
    inline: float = _setting(0.5, "chance that `Prefer: wait` answers `processing` with data: URIs inline")
    sign_uploads: float = _setting(
        0.5, "chance that the URL of an upload is a signed one, in its own answer and in a prediction's input"
    )
    redaction: str = _setting("mask", f"how secret inputs are shown: {', '.join(REDACTIONS)}")
    retention: float = _setting(3600.0, "input, output, logs and files are gone this long after completion")
    max_upload: int = _setting(100_000_000, "bytes; a larger file gets 413")
    keep: int = _setting(200_000, "predictions held in memory; the oldest are forgotten first")

    def __post_init__(self) -> None:
        if self.limiter not in LIMITERS:
            raise ValueError(f"limiter must be one of {', '.join(LIMITERS)}")
        if self.redaction not in REDACTIONS:
            raise ValueError(f"redaction must be one of {', '.join(REDACTIONS)}")
        if min(self.limit_creates, self.limit_gets, self.limit_reads, self.limit_burst, self.limit_window) <= 0:
            raise ValueError("limits are above 0")

    def changed(self, values: dict[str, Any]) -> Self:
        """The settings with new values; Problem 422 names an unknown one or one of the wrong type."""
        hints = get_type_hints(type(self))
        for name, value in values.items():
            if name not in hints:
                raise Problem(422, f"no setting {name!r}; there are: {', '.join(hints)}")
            if not _fits(value, get_args(hints[name]) or (hints[name],)):
                raise Problem(422, f"setting {name!r} cannot be {value!r}")
        try:
            return dataclasses.replace(self, **values)
        except ValueError as error:
            raise Problem(422, str(error)) from None


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each setting; its type is the field's."""
    hints = get_type_hints(Settings)
    for each in dataclasses.fields(Settings):
        flag = f"--{each.name.replace('_', '-')}"
        text = f"{each.metadata['help']} (default: %(default)s)"
        kind = next(kind for kind in (*get_args(hints[each.name]), hints[each.name]) if kind is not NoneType)
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=each.default, help=text)
        else:
            parser.add_argument(flag, type=kind, default=each.default, help=text)


def from_flags(arguments: argparse.Namespace) -> Settings:
    """The settings that the parsed flags ask for."""
    return Settings(**{each.name: getattr(arguments, each.name) for each in dataclasses.fields(Settings)})
