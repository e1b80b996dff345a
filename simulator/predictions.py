"""Predictions: each is planned when it is created; its state at any time is read from the plan."""

from __future__ import annotations

import base64
import hashlib
import secrets
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.answers import canonical
from simulator.models.model import File, Model
from simulator.uploads import Upload

PAGE = 100


@dataclass(slots=True, kw_only=True)
class Prediction:
    """One prediction; times are Unix seconds of the simulator's clock, `loose` is a set of bits.

    `uploads` are those that its input names, by URL, `unfetched` the URLs that it cannot fetch; `signed`: its input is
    shown with signed URLs in their place.
    """

    id: str
    number: int
    model: Model
    via: str
    asked: str
    input: dict[str, Any]
    created: float
    starts: float
    finish: float
    final: str = "succeeded"
    error: str | None = None
    deadline: float | None = None
    unknown: tuple[str, float] | None = None
    removed: bool = False
    loose: int = 0
    canceled: bool = False
    version: str = ""
    uploads: dict[str, Upload] = field(default_factory=dict)
    unfetched: list[str] = field(default_factory=list)
    signed: bool = False

    def status(self, now: float) -> str:
        """The status at that time."""
        if now >= self.finish:
            return self.final
        if now < self.starts:
            return "starting"
        if self.unknown and now < self.starts + self.unknown[1]:
            return self.unknown[0]
        return "processing"

    def data_removed(self, now: float, retention: float) -> bool:
        """Whether input, output, logs and files are gone."""
        return now >= self.finish and (self.removed or now >= self.finish + retention)

    def limit_life(self, deadline: float) -> None:
        """`Cancel-After`: aborted if it has not started by then, else canceled."""
        self.deadline = deadline
        if deadline < self.finish:
            self.end(deadline, "canceled" if self.starts < deadline else "aborted")

    def end(self, at: float, final: str, error: str | None = None) -> None:
        """End it early, or in another way than planned."""
        self.finish, self.final, self.error = at, final, error

    def cancel(self, now: float) -> None:
        """What the cancel call does: nothing when it has ended."""
        if now < self.finish:
            self.canceled = True
            self.end(now, "canceled")

    def cost(self, now: float) -> float:
        """Dollars; what never started is free."""
        return self.model.cost if min(now, self.finish) > self.starts and self.final != "aborted" else 0.0

    def metrics(self) -> dict[str, Any]:
        """What is measured of it when it has ended: its times, and of a success what the model counts."""
        run = self.finish - self.starts if self.starts <= self.finish else 0.0
        times = {"predict_time": round(run, 6), "total_time": round(self.finish - self.created, 6)}
        counted = self.model.measure(self.model.filled(self.input)) if self.final == "succeeded" else {}
        return times | counted

    def output(self) -> Any:
        """What the model makes of the input: JSON with `File` leaves, the same for the same input."""
        seed = hashlib.sha256(self.digest()).hexdigest()
        return self.model.make(self.model.filled(self.input), seed)

    def digest(self) -> bytes:
        """Equal for equal model and input; it goes by the content of uploads, and not by how long it takes."""
        input_ = self.with_uploads(lambda upload: upload.sha256)
        kept = {name: value for name, value in input_.items() if name not in ("predict_time", "queue_time")}
        return hashlib.blake2b(canonical([self.model.full_name, kept]), digest_size=16).digest()

    def with_uploads(self, replace: Callable[[Upload], str]) -> dict[str, Any]:
        """The input with the URL of each upload replaced."""
        if not self.uploads:
            return self.input
        replaced: dict[str, Any] = _mapped(self.input, {uri: replace(upload) for uri, upload in self.uploads.items()})
        return replaced

    def files(self) -> list[File]:
        """The files of the output, in the order of their URLs."""
        found: list[File] = []
        map_files(self.output(), lambda file, _number: found.append(file))
        return found


def _mapped(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(each, texts) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, texts) for each in value]
    return texts.get(value, value) if isinstance(value, str) else value


def map_files(output: Any, replace: Callable[[File, int], Any]) -> Any:
    """The output with each file, counted from 0, replaced."""
    count = -1

    def walk(value: Any) -> Any:
        nonlocal count
        if isinstance(value, File):
            count += 1
            return replace(value, count)
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items()}
        return [walk(each) for each in value] if isinstance(value, list) else value

    return walk(output)


@dataclass(frozen=True, slots=True)
class Page:
    """Predictions, newest first, and the cursors of the pages beside."""

    rows: list[Prediction]
    older: str | None
    newer: str | None


class Predictions:
    """All predictions of the account, oldest first, at most `keep` of them."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._nonce = secrets.token_bytes(8)
        self._rows: list[Prediction] = []
        self._by_id: dict[str, Prediction] = {}
        self.count = 0

    def next_id(self) -> str:
        """26 characters of lower-case base 32, never the same again, even from run to run."""
        mixed = hashlib.blake2b(self.count.to_bytes(8), key=self._nonce, digest_size=16).digest()
        return base64.b32encode(mixed)[:26].decode().lower()

    def add(self, prediction: Prediction) -> None:
        """Keep it; forget a tenth of all, the oldest, when there are too many."""
        self.count += 1
        self._rows.append(prediction)
        self._by_id[prediction.id] = prediction
        if len(self._rows) > self._keep:
            for old in self._rows[: self._keep // 10 + 1]:
                del self._by_id[old.id]
            del self._rows[: self._keep // 10 + 1]

    def get(self, prediction_id: str) -> Prediction | None:
        """The prediction of that id."""
        return self._by_id.get(prediction_id)

    def all(self) -> list[Prediction]:
        """All of them, oldest first."""
        return self._rows

    def page(
        self, *, after: float | None, before: float | None, cursor: str | None, visible: Callable[[Prediction], bool]
    ) -> Page:
        """Up to 100 predictions with after <= created < before, beside the cursor, that the list shows."""
        low = bisect_left(self._rows, after, key=_created) if after is not None else 0
        high = bisect_left(self._rows, before, key=_created) if before is not None else len(self._rows)
        direction, _, number = (cursor or "").partition("-")
        edge = bisect_left(self._rows, int(number), key=_number) if cursor else 0
        if direction == "newer":
            rows, more = self._gather(range(max(low, edge + 1), high), visible)
            rows.reverse()
            has_newer, has_older = more, True
        else:
            rows, more = self._gather(range(min(high, edge if cursor else high) - 1, low - 1, -1), visible)
            has_newer, has_older = cursor is not None, more
        return Page(
            rows,
            f"older-{rows[-1].number}" if rows and has_older else None,
            f"newer-{rows[0].number}" if rows and has_newer else None,
        )

    def _gather(self, places: range, visible: Callable[[Prediction], bool]) -> tuple[list[Prediction], bool]:
        rows: list[Prediction] = []
        for place in places:
            if not visible(self._rows[place]):
                continue
            if len(rows) == PAGE:
                return rows, True
            rows.append(self._rows[place])
        return rows, False


def _created(prediction: Prediction) -> float:
    return prediction.created


def _number(prediction: Prediction) -> int:
    return prediction.number
