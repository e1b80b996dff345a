"""A prediction as the API shows it: as loose as recorded bodies are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import Any

from simulator.answers import compact, timestamp
from simulator.models.model import File
from simulator.predictions import Prediction, map_files

_URL_LIFETIME = 3600.0
_TERMINAL = frozenset({"succeeded", "failed", "canceled", "aborted"})


class Loose(IntEnum):
    """What may be odd about a body; a set of these belongs to each prediction."""

    NO_METRICS = 1 << 0
    NO_STARTED_AT = 1 << 1
    NO_COMPLETED_AT = 1 << 2
    NO_DATA_REMOVED = 1 << 3
    NO_WEB = 1 << 4
    NO_MODEL = 1 << 5
    NO_NULL_OUTPUT = 1 << 6
    NULL_LOGS = 1 << 7
    EMPTY_ERROR = 1 << 8
    OTHER_VERSION = 1 << 9
    OTHER_MODEL = 1 << 10
    MILLISECONDS = 1 << 11
    NANOSECONDS = 1 << 12
    KEY_TWICE = 1 << 13


_ALL = tuple(flag.value for flag in Loose)


def looseness(random: Random, chance: float) -> int:
    """A set of oddities, each with that chance."""
    return sum([flag for flag in _ALL if random.random() < chance])


@dataclass(frozen=True, slots=True)
class View:
    """What a body depends on besides the prediction: base URLs of API and file host, clock, retention, redaction."""

    api: str
    files: str
    now: float
    retention: float
    redaction: str = "mask"


def file_url(view: View, prediction: Prediction, file: File, number: int) -> str:
    """The URL of one output file."""
    return f"{view.files}/sim/{prediction.id}/{number}/{file.name}"


def prediction_body(prediction: Prediction, view: View) -> bytes:
    """The JSON of a prediction."""
    return written(prediction, prediction_fields(prediction, view))


def written(prediction: Prediction, fields: dict[str, Any]) -> bytes:
    """Fields as JSON, by chance with one key twice."""
    body = compact(fields)
    return b'{"id":"%s",%s' % (prediction.id.encode(), body[1:]) if prediction.loose & Loose.KEY_TWICE else body


def prediction_fields(prediction: Prediction, view: View) -> dict[str, Any]:
    """The fields of a prediction at the time of the view."""
    loose, status = prediction.loose, prediction.status(view.now)
    removed = prediction.data_removed(view.now, view.retention)
    error = prediction.error if status in _TERMINAL else None
    fields: dict[str, Any] = {
        "id": prediction.id,
        **_identity(prediction),
        "input": {} if removed else _shown_input(prediction, view),
        "logs": None if removed or loose & Loose.NULL_LOGS else _logs(prediction, status),
        "output": None if removed else _output(prediction, status, view),
        "data_removed": removed,
        "error": "" if error is None and status != "failed" and loose & Loose.EMPTY_ERROR else error,
        "source": "api",
        "status": status,
        **_times(prediction, status, view.now),
        "urls": _urls(prediction, view),
    }
    if loose:
        _drop(fields, loose)
    return fields


def _shown_input(prediction: Prediction, view: View) -> dict[str, Any]:
    """The input as the API shows it afterwards: with signed URLs of uploads, and its secrets masked or left out."""
    api, expiry, given = view.api, prediction.created + _URL_LIFETIME, prediction.input
    if prediction.signed:
        given = prediction.with_uploads(lambda upload: upload.shown_url(api, expiry))
    secret = {name for name in prediction.input if "x-cog-secret" in prediction.model.inputs.get(name, ())}
    if view.redaction == "mask":
        return {name: "[REDACTED]" if name in secret else value for name, value in given.items()}
    return {name: value for name, value in given.items() if name not in secret}


def _drop(fields: dict[str, Any], loose: int) -> None:
    """Leave out what the API leaves out at times; never that data was removed."""
    for name, dropped in _DROPPED.items():
        if loose & dropped and not (name == "data_removed" and fields[name]):
            fields.pop(name, None)
    if loose & Loose.NO_NULL_OUTPUT and fields["output"] is None and not fields.get("data_removed"):
        del fields["output"]


_DROPPED = {
    "metrics": Loose.NO_METRICS,
    "started_at": Loose.NO_STARTED_AT,
    "completed_at": Loose.NO_COMPLETED_AT,
    "data_removed": Loose.NO_DATA_REMOVED,
}


def _identity(prediction: Prediction) -> dict[str, Any]:
    """Model and version as answered; one of them always tells what was asked."""
    loose, model = prediction.loose, prediction.model
    version = prediction.version or model.version
    if prediction.via == "deployment":
        return {"model": model.full_name, "version": version, "deployment": prediction.asked}
    if prediction.via == "official":
        hidden = not loose & Loose.OTHER_VERSION
        return {"model": model.full_name, "version": "hidden" if hidden else version}
    name = f"{model.full_name}-renamed" if loose & Loose.OTHER_MODEL else model.full_name
    return {"version": version} if loose & Loose.NO_MODEL else {"model": name, "version": version}


def _logs(prediction: Prediction, status: str) -> str:
    return "" if status == "starting" else f"Using seed: {prediction.input.get('seed', prediction.number)}\n"


def _output(prediction: Prediction, status: str, view: View) -> Any:
    if status == "succeeded":
        return map_files(prediction.output(), lambda file, number: file_url(view, prediction, file, number))
    if status in _TERMINAL or status == "starting" or not prediction.model.iterates:
        return None
    tokens = prediction.output()
    done = (view.now - prediction.starts) / max(prediction.finish - prediction.starts, 1e-9)
    return tokens[: int(len(tokens) * min(max(done, 0), 0.99))]


def _times(prediction: Prediction, status: str, now: float) -> dict[str, Any]:
    digits = 3 if prediction.loose & Loose.MILLISECONDS else 9 if prediction.loose & Loose.NANOSECONDS else 6
    ended = status in _TERMINAL
    started = prediction.starts if prediction.starts <= min(now, prediction.finish) else None
    times: dict[str, Any] = {
        "created_at": timestamp(prediction.created, digits),
        "started_at": None if started is None else timestamp(started, digits),
        "completed_at": timestamp(prediction.finish, digits) if ended else None,
    }
    if prediction.deadline is not None:
        times["deadline"] = timestamp(prediction.deadline, digits)
    if ended:
        times["metrics"] = prediction.metrics()
    return times


def _urls(prediction: Prediction, view: View) -> dict[str, str]:
    get = f"{view.api}/v1/predictions/{prediction.id}"
    urls = {"get": get, "cancel": f"{get}/cancel"}
    return urls if prediction.loose & Loose.NO_WEB else urls | {"web": f"https://replicate.com/p/{prediction.id}"}
