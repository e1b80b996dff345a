"""The predictions of the stand-in's one account, and the JSON that shows them."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime

PAGE = 100
"""Predictions in a page of the list, as Replicate has it."""

_DIGITS = "0123456789abcdefghijklmnopqrstuv"


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
        """The JSON as of now; what has ended is written once."""
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
        now = round(now, 6)  # as it is shown: who asks for what was created since then must find it
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
