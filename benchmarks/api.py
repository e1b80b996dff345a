"""Replicate's predictions API, as much of it as a batch client uses."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from urllib.parse import parse_qsl, urlencode

from benchmarks.predictions import Account, Prediction
from benchmarks.wire import Answer, Request

RunTime = Callable[[], float]
"""Draws the seconds that a prediction runs."""


class Api:
    """Answers the calls and counts them by kind."""

    def __init__(self, url: str, account: Account, run_time: RunTime) -> None:
        self._url, self._account, self._run_time = url, account, run_time
        self.counts: Counter[str] = Counter()

    def answer(self, request: Request) -> Answer:
        """One call."""
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
            case "GET", ["account"]:
                return self._counted("account", b'{"type":"user","username":"bench","name":"bench"}')
        return self._counted("other", b'{"detail":"The requested resource could not be found."}', 404)

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


def _moment(text: str | None, default: float) -> float:
    return datetime.fromisoformat(text.replace(" ", "+")).timestamp() if text else default
