"""Replicate's predictions API: create, get, list, cancel, account. One request each, no retries.

Source: the published OpenAPI document; bodies are parsed as loosely as recorded traffic requires.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httpx

from jobs.config import Config
from jobs.errors import NotFound, Unanswered
from jobs.replicate_api.client import Answer, call, own_path

CREATE_TIMEOUT = 30.0
"""Seconds for a whole create, besides the time that blocking mode lets the server wait."""

PAGE_ROWS = 100
"""Predictions on a page of the list."""

TERMINAL = frozenset({"succeeded", "failed", "canceled", "aborted"})
_FRACTION = re.compile(r"\.(\d{1,6})\d*")
_ID = re.compile(r"[!-~]{1,200}")
_LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999 in UTC: Python can format no later time."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Replicate's object; `raw` is as received, where only `id` and `status` are certain."""

    id: str
    status: str
    raw: Mapping[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether it has ended; one with an unknown status has not."""
        return self.status in TERMINAL

    @property
    def output(self) -> Any:
        """The model's output: any JSON value."""
        return self.raw.get("output")

    @property
    def error(self) -> str | None:
        """Why it failed, as text."""
        error = self.raw.get("error")
        return error if error is None or isinstance(error, str) else str(error)

    @property
    def data_removed(self) -> bool:
        """Whether Replicate has deleted its output."""
        return self.status == "succeeded" and self.output is None and bool(self.raw.get("data_removed"))

    @property
    def metrics(self) -> dict[str, Any]:
        """Times in seconds and token counts; an open dictionary."""
        metrics = self.raw.get("metrics")
        return dict(metrics) if isinstance(metrics, Mapping) else {}

    def text(self, name: str) -> str | None:
        """A field when it is a text, else None."""
        value = self.raw.get(name)
        return value if isinstance(value, str) else None

    def time(self, name: str) -> float | None:
        """A field such as `created_at` as Unix seconds, None when it is missing or unreadable."""
        return unix_time(self.raw.get(name))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list of predictions, newest first; `next` is the URL of the one after."""

    predictions: tuple[Prediction, ...]
    next: str | None


class Replicate:
    """The account's predictions. Methods raise the errors of `jobs.errors.ReplicateError`."""

    def __init__(self, client: httpx.AsyncClient, config: Config, create_timeout: float = CREATE_TIMEOUT) -> None:
        self._client = client
        self._config = config
        self._create_timeout = create_timeout
        self.clock_offset = 0.0
        """Seconds that the API's clock is ahead of ours, by the `Date` of its last answer."""
        self.creates_left: int | None = None
        """How many creates the limit leaves, by `ratelimit-remaining` of the last answer to a create."""

    async def create(self, model: str, prompt_input: Mapping[str, Any]) -> Prediction:
        """POST one prediction; `model` is a version, a model or `deployments/owner/name`.

        After Unanswered it may exist or not: never simply call again.
        """
        wait = self._config.prefer_wait
        headers = {"Cancel-After": f"{self._config.deadline}s"} | ({"Prefer": f"wait={wait}"} if wait else {})
        path, body = _create_request(model, prompt_input)
        answer = await self._call("POST", path, json=body, headers=headers, seconds=self._create_timeout + wait)
        self.creates_left = _count(answer.headers.get("ratelimit-remaining"))
        return _prediction(answer.body)

    async def get(self, prediction_id: str) -> Prediction:
        """One prediction; NotFound carries its id."""
        path = f"/v1/predictions/{quote(prediction_id, safe='')}"
        try:
            return _prediction((await self._call("GET", path)).body)
        except NotFound as error:
            raise NotFound(
                f"prediction {prediction_id} is not known", status=404, prediction_id=prediction_id
            ) from error

    async def cancel(self, prediction_id: str) -> Prediction:
        """Cancel a prediction; one that has ended stays as it is."""
        path = f"/v1/predictions/{quote(prediction_id, safe='')}/cancel"
        return _prediction((await self._call("POST", path)).body)

    async def list(self, *, since: float, until: float | None = None, cursor: str | None = None) -> Page:
        """One page of predictions created in a span of Unix seconds (API's clock); `cursor` is a page's `next`."""
        params = {"created_after": _iso(since)} | ({"created_before": _iso(until)} if until else {})
        body = (await self._call("GET", cursor or str(httpx.URL("/v1/predictions", params=params)))).body
        rows = body.get("results")
        return Page(tuple(_rows(rows if isinstance(rows, list) else [])), own_path(body.get("next")))

    async def account(self) -> str:
        """The account's name: a free check of the token."""
        return str((await self._call("GET", "/v1/account")).body.get("username", "?"))

    async def _call(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None, seconds: float = 30
    ) -> Answer:
        answer = await call(self._client, method, path, json=json, headers=headers, timeout=seconds)
        if date := answer.headers.get("date"):
            self._learn_clock(date)
        return answer

    def _learn_clock(self, date: str) -> None:
        try:
            self.clock_offset = _http_time(date) + 0.5 - time.time()
        except (ValueError, TypeError, OverflowError):
            return


def unix_time(value: Any) -> float | None:
    """A time as the API writes it, as Unix seconds; None when it is missing or unreadable."""
    return _unix_time(value) if isinstance(value, str) else None


@lru_cache(maxsize=4096)
def _unix_time(value: str) -> float | None:
    """Cached, since a prediction's times are asked for again and again while it is followed and saved."""
    try:
        seconds = datetime.fromisoformat(_FRACTION.sub(r".\1", value)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= _LAST_SECOND else None


@lru_cache(1)
def _http_time(date: str) -> float:
    """A Date header as Unix seconds; many answers a second have the same."""
    return parsedate_to_datetime(date).timestamp()


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _create_request(model: str, prompt_input: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if model.startswith("deployments/"):
        return f"/v1/{model}/predictions", {"input": prompt_input}
    version = model.rpartition(":")[2] if ":" in model else model
    return "/v1/predictions", {"version": version, "input": prompt_input}


def _prediction(body: Mapping[str, Any]) -> Prediction:
    if not _is_prediction(body):
        raise Unanswered("the answer is not a prediction: it has no id or no status")
    return Prediction(body["id"], body["status"], body)


def _rows(rows: list[Any]) -> list[Prediction]:
    return [_prediction(row) for row in rows if isinstance(row, Mapping) and _is_prediction(row)]


def _is_prediction(body: Mapping[str, Any]) -> bool:
    """Whether it has a valid id, which goes into paths, Redis keys and lists separated by spaces."""
    prediction_id, status = body.get("id"), body.get("status")
    return isinstance(prediction_id, str) and bool(_ID.fullmatch(prediction_id)) and isinstance(status, str)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="microseconds")


RETENTION = 3600.0
"""Seconds that Replicate keeps an output; assumed to count from the prediction's end."""
