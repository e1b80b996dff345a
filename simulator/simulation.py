"""The simulator's whole state, which a reset clears."""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections import Counter
from typing import Any
from urllib.parse import unquote_to_bytes

from simulator.faults import Faults
from simulator.ledger import Ledger
from simulator.limits import Limits
from simulator.models.model import Ending, Model
from simulator.models.versions import Versions
from simulator.predictions import Prediction, Predictions
from simulator.randomness import SeededRandom
from simulator.rendering import looseness
from simulator.settings import Settings
from simulator.uploads import Upload, Uploads, names_upload

_OUTPUT = re.compile(r"/sim/(\w+)/(\d+)/")


class Clock:
    """Unix seconds in whole microseconds, ahead of the real time by `ahead`; it never steps back."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._latest = 0.0

    def now(self) -> float:
        """The simulator's time."""
        self._latest = max(self._latest, round(time.time() + self.ahead, 6))
        return self._latest


class Simulation:
    """The state of one account at one stand-in for Replicate."""

    def __init__(self, settings: Settings, faults: dict[str, Any] | None = None) -> None:
        self._initial_settings, self._initial_faults = settings, dict(faults or {})
        self.resets = 0
        self.uploads = Uploads()
        self.reset()

    def reset(self) -> None:
        """Forget everything; settings and faults are those of the start."""
        self.resets += 1
        self.clock = Clock()
        self.random = SeededRandom(self._initial_settings.seed)
        self.faults = Faults(self.random, self._initial_faults)
        self.ledger = Ledger()
        self.uploads.clear()
        self.versions = Versions()
        self.predictions = Predictions(self._initial_settings.keep)
        self._tries: Counter[bytes] = Counter()
        self.settings = self._initial_settings
        self._apply()

    def change(self, values: dict[str, Any]) -> None:
        """Change settings at run time; a change of limits empties the limiters."""
        self.settings = self.settings.changed(values)
        if any(name.startswith("limit") for name in values):
            self.limits = Limits(self.settings, self.random)
        if "credit" in values:
            self.credit = self.settings.credit

    def _apply(self) -> None:
        self.limits = Limits(self.settings, self.random)
        self.credit = self.settings.credit

    def create(self, model: Model, values: dict[str, Any], *, via: str, asked: str) -> Prediction:
        """Plan a prediction of a checked input and pay for it; `asked` is what the caller named."""
        now = self.clock.now()
        random = self.random["times"]
        starts = now + _number(values.get("queue_time"), random.uniform(*self._queue()))
        prediction = Prediction(
            id=self.predictions.next_id(),
            number=self.predictions.count,
            model=model,
            version=asked.rpartition(":")[2] if via == "version" else self.versions.latest(model),
            via=via,
            asked=asked,
            input=values,
            created=now,
            starts=starts,
            finish=starts + _number(values.get("predict_time"), self._run_time(model)),
            loose=looseness(self.random["loose"], self.settings.loose),
        )
        self._fetch_inputs(prediction)
        ending = model.trouble(model.filled(values), self._earlier(prediction), self.read)
        self._end(prediction, _unfetched(prediction) or ending)
        self._apply_faults(prediction)
        self.predictions.add(prediction)
        if self.credit is not None:
            self.credit -= model.cost
        return prediction

    def read(self, uri: str) -> bytes | None:
        """The bytes behind a URI of an input: a data: URI, an upload or an output file of this simulator.

        An upload that is gone is read, too: the model fetched it while it was there, or the prediction fails anyway.
        """
        if uri.startswith("data:"):
            head, _, data = uri.partition(",")
            with contextlib.suppress(ValueError):
                return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
        if upload := self.uploads.find(uri):
            return self.uploads.read(upload)
        if match := _OUTPUT.search(uri):
            return self.output_bytes(match[1], int(match[2]))
        return None

    def output_bytes(self, prediction_id: str, number: int) -> bytes | None:
        """One output file of a prediction, None when it is not there (any more)."""
        prediction = self.live(prediction_id)
        files = prediction.files() if prediction else []
        return files[number].draw(self.read) if number < len(files) else None

    def live(self, prediction_id: str) -> Prediction | None:
        """The prediction if it succeeded and its files are still there."""
        now = self.clock.now()
        prediction = self.predictions.get(prediction_id)
        if prediction is None or prediction.status(now) != "succeeded":
            return None
        return None if prediction.data_removed(now, self.settings.retention) else prediction

    def signs_url(self) -> bool:
        """Whether the next URL of an upload is a signed one."""
        return self.random["sign uploads"].random() < self.settings.sign_uploads

    def delete_upload(self, upload: Upload) -> None:
        """Delete an upload: a prediction that has not started yet cannot fetch it any more."""
        now = self.clock.now()
        upload.deleted = now
        for prediction in upload.users:
            if now < min(prediction.starts, prediction.finish):
                prediction.unfetched += [uri for uri, used in prediction.uploads.items() if used is upload]
                self._end(prediction, _unfetched(prediction))

    def _fetch_inputs(self, prediction: Prediction) -> None:
        """What happens to the uploads that its input names when it starts."""
        for uri in filter(names_upload, dict.fromkeys(prediction.model.uris(prediction.input))):
            if upload := self.uploads.find(uri):
                prediction.uploads[uri] = upload
                upload.users.append(prediction)
            if not self.uploads.fetch(uri, prediction.starts):
                prediction.unfetched.append(uri)
        prediction.signed = bool(prediction.uploads) and self.signs_url()

    def _queue(self) -> tuple[float, float]:
        return self.settings.queue_min, max(self.settings.queue_min, self.settings.queue_max)

    def _run_time(self, model: Model) -> float:
        settings, random = self.settings, self.random["times"]
        if model.slow:
            return settings.slow_median * random.lognormvariate(0, settings.slow_sigma)
        return random.uniform(settings.predict_min, max(settings.predict_min, settings.predict_max))

    def _earlier(self, prediction: Prediction) -> int:
        if "times" not in prediction.input:
            return 0
        key = prediction.digest()
        self._tries[key] += 1
        return self._tries[key] - 1

    def _end(self, prediction: Prediction, ending: Ending | None) -> None:
        if ending:
            at = prediction.starts if ending.status == "aborted" else prediction.finish
            prediction.end(at, ending.status, ending.error)

    def _apply_faults(self, prediction: Prediction) -> None:
        for status in ("aborted", "canceled", "failed"):
            if fault := self.faults.strike(status, "create"):
                self._end(prediction, Ending(status, fault.options.get("text")))
        if fault := self.faults.strike("unknown_status", "create"):
            prediction.unknown = (fault.options.get("text", "queued"), fault.seconds(1.0))
        if self.faults.strike("data_removed", "create"):
            prediction.removed = True


def _unfetched(prediction: Prediction) -> Ending | None:
    """How Cog's download of an input ends when the file is not there."""
    if not prediction.unfetched:
        return None
    return Ending("failed", f"404 Client Error: Not Found for url: {prediction.unfetched[0]}")


def _number(value: Any, otherwise: float) -> float:
    return otherwise if value is None else float(value)
