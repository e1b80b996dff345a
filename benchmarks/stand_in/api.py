"""The part of Replicate's predictions API that a batch client uses, and its one account."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, urlencode

from benchmarks.stand_in.http1 import Answer, Request

PAGE = 100
"""Predictions in a page of the list, as Replicate has it."""

_DIGITS = "0123456789abcdefghijklmnopqrstuv"

RunTime = Callable[[], float]
"""Draws the seconds that a prediction runs."""


@dataclass(slots=True)
class Prediction:
    """One prediction; times are Unix seconds, `fetched` is when its first file was asked for."""

    number: int
    prompt_input: str
    created: float
    ends: float
    output: str
    fetched: float | None = None
    canceled: bool = False
    _ended: bytes | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """26 characters, as Replicate's are."""
        number, digits = self.number, ""
        while number:
            number, digit = divmod(number, 32)
            digits = _DIGITS[digit] + digits
        return digits.rjust(26, "b")

    def body(self, api: str, now: float) -> bytes:
        """The JSON as of now; once it has ended, it is rendered only once."""
        if now < self.ends:
            return self._written(api, "starting" if now - self.created < 0.1 else "processing")
        if self._ended is None:
            self._ended = self._written(api, "canceled" if self.canceled else "succeeded")
        return self._ended

    def _written(self, api: str, status: str) -> bytes:
        ended = status in ("succeeded", "canceled")
        url, run = f"{api}/v1/predictions/{self.id}", self.ends - self.created
        times = f'"created_at":"{_iso(self.created)}","started_at":"{_iso(self.created)}"'
        if ended:
            times += (
                f',"completed_at":"{_iso(self.ends)}","metrics":{{"predict_time":{run:.6f},"total_time":{run:.6f}}}'
            )
        return (
            f'{{"id":"{self.id}","model":"bench/model","version":"hidden","input":{self.prompt_input},"logs":"",'
            f'"output":{self.output if status == "succeeded" else "null"},"data_removed":false,"error":null,'
            f'"source":"api","status":"{status}",{times},'
            f'"urls":{{"get":"{url}","cancel":"{url}/cancel","web":"https://replicate.com/p/{self.id}"}}}}'
        ).encode()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Account:
    """All predictions of the account, oldest first."""

    def __init__(self, files_url: str, files_each: int) -> None:
        self.all: list[Prediction] = []
        self._files_url, self._files_each = files_url, files_each

    def create(self, prompt_input: str, now: float, seconds: float) -> Prediction:
        """Create a prediction that runs for the given seconds."""
        number = len(self.all)
        urls = [f"{self._files_url}/sim/{number}/{file}/output.png" for file in range(self._files_each)]
        now = round(now, 6)  # as it is shown, so that `created_after` that time includes it
        created = Prediction(number + (1 << 60), prompt_input, now, now + seconds, json.dumps(urls))
        self.all.append(created)
        return created

    def find(self, prediction_id: str) -> Prediction | None:
        """Return the prediction with this id."""
        try:
            number = int(prediction_id.lstrip("b") or "0", 32) - (1 << 60)
        except ValueError:
            return None
        return self.all[number] if 0 <= number < len(self.all) else None

    def page(self, after: float, before: float, cursor: int | None) -> tuple[list[Prediction], int | None]:
        """A page of those created in the span, newest first, and the next page's cursor."""
        first = bisect_left(self.all, after, key=lambda one: one.created)
        end = bisect_left(self.all, before, key=lambda one: one.created) if cursor is None else cursor
        start = max(end - PAGE, first)
        return self.all[start:end][::-1], start if start > first else None


class Api:
    """Answers calls and counts them by kind."""

    def __init__(self, url: str, account: Account, run_time: RunTime) -> None:
        self._url, self._account, self._run_time = url, account, run_time
        self.counts: Counter[str] = Counter()

    def answer(self, request: Request) -> Answer:
        """Answer one call."""
        path, _, query = request.target.partition("?")
        parts = path.strip("/").split("/")
        match request.method, parts[1:]:
            case "GET", ["predictions", prediction_id]:
                return self._get(prediction_id)
            case "GET", ["predictions"]:
                return self._list(dict(parse_qsl(query)))
            case "POST", ["predictions"] | ["models", _, _, "predictions"]:
                return self._create(request.body)
            case "POST", ["predictions", prediction_id, "cancel"]:
                return self._cancel(prediction_id)
            case "GET", ["account"] | ["models", _, _]:
                return self._described(*parts[1:])
        return self._counted("other", b'{"detail":"The requested resource could not be found."}', 404)

    def _described(self, kind: str, *names: str) -> Answer:
        body: dict[str, Any] = _model(*names) if names else {"type": "user", "username": "bench", "name": "bench"}
        return self._counted(kind, json.dumps(body).encode())

    def _create(self, body: bytes) -> Answer:
        prompt_input = json.dumps(json.loads(body)["input"], separators=(",", ":"))
        prediction = self._account.create(prompt_input, time.time(), self._run_time())
        return self._counted("create", prediction.body(self._url, -math.inf), 201)

    def _get(self, prediction_id: str) -> Answer:
        return self._shown("get", self._account.find(prediction_id))

    def _cancel(self, prediction_id: str) -> Answer:
        prediction, now = self._account.find(prediction_id), time.time()
        if prediction and now < prediction.ends:
            prediction.canceled, prediction.ends = True, now
        return self._shown("cancel", prediction)

    def _shown(self, kind: str, prediction: Prediction | None) -> Answer:
        if prediction is None:
            return self._counted(kind, b'{"detail":"The requested resource could not be found."}', 404)
        return self._counted(kind, prediction.body(self._url, time.time()))

    def _list(self, query: dict[str, str]) -> Answer:
        now, cursor = time.time(), query.get("cursor")
        after = _moment(query.get("created_after"), -math.inf)
        before = _moment(query.get("created_before"), math.inf)
        rows, older = self._account.page(after, before, int(cursor) if cursor else None)
        url = f'"{self._url}/v1/predictions?{urlencode(query | {"cursor": older})}"' if older is not None else "null"
        shown = b",".join(row.body(self._url, now) for row in rows)
        return self._counted("list", b'{"next":%s,"previous":null,"results":[%s]}' % (url.encode(), shown))

    def _counted(self, kind: str, body: bytes, status: int = 200) -> Answer:
        self.counts[kind] += 1
        date = formatdate(usegmt=True).encode()
        return Answer(body, status, b"content-type: application/json\r\ndate: %s\r\n" % date)


def _model(owner: str, name: str) -> dict[str, Any]:
    """A model with a schema of the usual size."""
    aspect = {"title": "aspect_ratio", "type": "string", "enum": ["1:1", "16:9", "3:2"]}
    properties = {
        "prompt": {"type": "string"},
        "seed": {"type": "integer"},
        "aspect_ratio": {"allOf": [{"$ref": "#/components/schemas/aspect_ratio"}], "default": "1:1"},
        "num_outputs": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        "guidance": {"type": "number", "minimum": 0, "maximum": 10},
        "image": {"type": "string", "format": "uri"},
    }
    schemas = {"aspect_ratio": aspect, "Input": {"type": "object", "properties": properties, "required": ["prompt"]}}
    version = {"id": "0" * 64, "openapi_schema": {"components": {"schemas": schemas}}}
    return {"owner": owner, "name": name, "is_official": True, "latest_version": version}


def _moment(text: str | None, default: float) -> float:
    return datetime.fromisoformat(text.replace(" ", "+")).timestamp() if text else default
