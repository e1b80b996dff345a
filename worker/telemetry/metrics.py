"""What this process has done and how it stands, as metrics for Prometheus.

A process is one target with one registry, so the metrics are those of the module. Counting one takes 2 µs, whether they
are served or not. Labels are bounded: the first models get a series each, all later ones are `other`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from jobs.errors import NotSent, ReplicateError
from jobs.redis_client.outage import OUTAGE
from jobs.replicate_api.predictions import Prediction
from jobs.wire import Result

MOST_MODELS = 50
"""Models with series of their own; a prompts file may name thousands of versions."""

OTHER = "other"

ENDED = ("succeeded", "failed", "canceled", "aborted")
"""How predictions end; one that does not within its deadline is `overdue`."""

REGISTRY = CollectorRegistry()
disable_created_metrics()  # a second series for each counter, of no use to anybody
ProcessCollector(registry=REGISTRY)

_WAITS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_DELAYS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)
_STEPS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_DURATIONS = (0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800)


def _counter(name: str, what: str, *labels: str) -> Counter:
    return Counter(f"replicate_batch_{name}", what, labels, registry=REGISTRY)


def _gauge(name: str, what: str, *labels: str) -> Gauge:
    return Gauge(f"replicate_batch_{name}", what, labels, registry=REGISTRY)


def _histogram(name: str, what: str, buckets: Iterable[float], *labels: str) -> Histogram:
    return Histogram(f"replicate_batch_{name}", what, labels, buckets=tuple(buckets), registry=REGISTRY)


ATTEMPTS = _counter("attempts_total", "Predictions created.", "model")
PREDICTIONS = _counter("predictions_total", "Predictions that ended, by how.", "model", "status")
PROMPTS = _counter("prompts_total", "Prompts that got their result.", "model", "status")
SAVED = _counter("saved_outputs_total", "Prompts whose output is on disk.")
FAILURES = _counter("failures_total", "Prompts that failed, by the kind of their error.", "kind")
RETRIES = _counter("retries_total", "Attempts that were followed by another, by why.", "kind")
COST = _counter("cost_dollars_total", "What prompts with a result cost, as far as prices are known.", "model")
UNKNOWN_CREATES = _counter("unknown_creates_total", "Creates whose answer was lost.")
REQUESTS = _counter("api_requests_total", "Requests to Replicate's API, by their answer.", "bucket", "status")
DOWNLOADED = _counter("download_bytes_total", "Bytes of output files received, repeated transfers included.")
UPLOADED = _counter("upload_bytes_total", "Bytes of local files uploaded.")

TOKENS_WAIT = _histogram("create_tokens_wait_seconds", "How long creates waited for the rate limit.", _WAITS)
DETECTION_DELAY = _histogram(
    "detection_delay_seconds", "From a prediction's end, by Replicate's clock, to its detection.", _DELAYS
)
DURATION = _histogram(
    "prediction_duration_seconds", "From a prediction's creation to its end, queueing included.", _DURATIONS, "model"
)
STEPS = _histogram("step_seconds", "How long the steps of attempts take.", _STEPS, "step")

IN_FLIGHT = _gauge("in_flight", "Predictions that this worker waits for.")
IN_FLIGHT_LIMIT = _gauge("in_flight_limit", "The most predictions in flight, BATCH_MAX_IN_FLIGHT.")
CREATE_LIMIT = _gauge("creates_per_minute_limit", "The most creates a minute of all workers together.")
WAITING = _gauge("waiting_prompts", "Prompts of this worker that wait, by what for.", "reason")
DOWNLOADS = _gauge("downloads", "Files being downloaded.")
UNSAVED = _gauge("unsaved_outputs", "Predictions that succeeded and are not on disk.")
BACKLOG = _gauge("unsaved_backlog_seconds", "Seconds since the oldest unsaved output's end; it is kept for 3600.")
LAST_TICK = _gauge("event_loop_timestamp_seconds", "When the worker's event loop last ran: an old one means it hangs.")
PAUSED = _gauge("paused", "1 while creates are held back: of all models, or (model) of at least one.", "reason")
PAUSED_MODELS = _gauge("paused_models", "Models that their circuit breakers have paused.")
QUEUED = _gauge("queued_shards", "Shards in the queue of all workers, running ones included.")
DEAD_LETTERS = _gauge("dead_letters", "Shards that do not run any more after repeated crashes.")
WORKERS = _gauge("workers", "Workers of this API host that are up.")
BUILD = _gauge("build_info", "1, with the versions as labels.", "version", "python_version")

PAUSES = ("manual", "token", "credit", "trouble", "model")
"""The values of `reason`: by hand, a refused token (401), no credit (402), outputs cannot be saved, a model."""

for _reason in PAUSES:
    PAUSED.labels(_reason)


class ModelLabels:
    """The labels of models: their names without a version, until there are too many."""

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._labels: dict[str, str] = {}
        self._names: set[str] = set()

    def __call__(self, model: str) -> str:
        """The label of a model as a row names it."""
        if label := self._labels.get(model):
            return label
        name = model.partition(":")[0]
        if name not in self._names and len(self._names) >= self._most:
            return OTHER
        self._names.add(name)
        if len(self._labels) < 10 * self._most:
            self._labels[model] = name
        return name


label_of = ModelLabels()


def count_attempt(model: str) -> None:
    """A prediction was created. Its model's series all begin at 0 now: `rate` does not see a first value."""
    label = label_of(model)
    ATTEMPTS.labels(label).inc()
    if label not in _started:
        _started.add(label)
        COST.labels(label)
        for status in ENDED:
            PREDICTIONS.labels(label, status)
        for status in ENDED[:3]:
            PROMPTS.labels(label, status)


_started: set[str] = set()


def count_prediction(model: str, prediction: Prediction) -> None:
    """A prediction ended, or is overdue."""
    label = label_of(model)
    PREDICTIONS.labels(label, prediction.status if prediction.status in ENDED else "overdue").inc()
    began, ended = prediction.time("created_at"), prediction.time("completed_at")
    if began is not None and ended is not None:
        DURATION.labels(label).observe(max(ended - began, 0.0))


def observe_detection(ended_at: float | None, clock_offset: float) -> None:
    """A prediction was found to have ended, at `ended_at` by a clock that is `clock_offset` ahead of ours."""
    if ended_at is not None:
        DETECTION_DELAY.observe(max(time.time() + clock_offset - ended_at, 0.0))


def count_prompt(result: Result) -> None:
    """A prompt has its result, counted once among all workers."""
    label = label_of(result.model)
    PROMPTS.labels(label, result.status).inc()
    if result.status == "succeeded":
        SAVED.inc()
    if result.error:
        FAILURES.labels(result.error.kind).inc()
    if result.cost:
        COST.labels(label).inc(result.cost)


@contextmanager
def time_wait(bucket: str) -> Iterator[None]:
    """Time how long a create waits in the block for its start time."""
    began = time.monotonic()
    yield
    if bucket == "create":
        TOKENS_WAIT.observe(time.monotonic() - began)


@contextmanager
def count_request(bucket: str) -> Iterator[None]:
    """Count the request that is made in the block by its answer; one that was given up before it counts as nothing."""
    try:
        yield
    except Exception as error:
        if status := _status(error):
            REQUESTS.labels(bucket, status).inc()
        raise
    REQUESTS.labels(bucket, "2xx").inc()


def _status(error: BaseException | None) -> str:
    """The answer that an error is about: a status, `not_sent` or `unanswered`; "" when there was no request."""
    if error is None:
        return ""
    if not isinstance(error, ReplicateError):
        return _status(error.__cause__)
    if error.status:
        return str(error.status)
    return "not_sent" if isinstance(error, NotSent) else "unanswered"


class _Outages(Collector):
    """Redis as the process's clients see it, read when somebody asks."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "replicate_batch_redis_outages", "Times that Redis did not answer.", value=OUTAGE.outages
        )


REGISTRY.register(_Outages())


def set_build_info() -> None:
    """Set the versions that run."""
    BUILD.labels(our_version(), platform.python_version()).set(1)


def our_version() -> str:
    """The version of this package."""
    try:
        return version("replicate-batch")
    except PackageNotFoundError:
        return "unknown"
