"""The data that programs exchange: prompts, shards, batches, results, statuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SHARD_SIZE = 100
"""Prompts in a shard: indexes 100n … 100n+99 of a batch."""

Outcome = Literal["succeeded", "failed", "canceled"]
ErrorKind = Literal[
    "invalid_input",
    "input_file",
    "not_found",
    "model_error",
    "content_policy",
    "interrupted",
    "aborted",
    "canceled",
    "output_lost",
    "file_refused",
    "file_too_big",
    "create_unknown",
    "over_budget",
    "internal",
]
State = Literal["queued", "running", "paused", "finished", "canceled", "forgotten"]


def timestamp(seconds: float | None = None) -> str:
    """Unix seconds (default: now) as RFC 3339 in UTC with milliseconds."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local_time(seconds: float) -> str:
    """Unix seconds as people read them: the machine's own time, with its zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def as_local(moment: str) -> str:
    """An RFC 3339 time as people read it."""
    return local_time(datetime.fromisoformat(moment).timestamp())


def canonical_json(value: Any) -> str:
    """One text for equal JSON values: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row of a batch; `generation` is the batch's when the row was added."""

    index: int
    id: str
    model: str
    input: dict[str, Any]
    generation: int = 0

    @property
    def shard(self) -> int:
        """The number of the shard that the prompt belongs to."""
        return self.index // SHARD_SIZE

    @property
    def digest(self) -> bytes:
        """16 bytes that are equal when model and input are equal."""
        text = canonical_json([self.model, self.input])
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True, repr=False)
class Shard:
    """What one arq job carries: prompts of one shard of a batch, added in one generation."""

    batch: str
    batch_id: str
    number: int
    generation: int
    prompts: tuple[Prompt, ...]

    @property
    def job_id(self) -> str:
        """The arq job id: `<batch>:<n>:<generation>`."""
        return f"{self.batch}:{self.number}:{self.generation}"

    def __repr__(self) -> str:
        """Short, because arq logs the repr of a job's arguments at each start."""
        count = len(self.prompts)
        return f"{self.job_id}, {count} prompt{'s' if count != 1 else ''}"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as Redis knows it; times are Unix seconds, money is in micro-dollars, `api_host` is its producer's.

    `empty` prompts succeeded without any output, `unsaved` files stayed at their URLs, the last one on `unsaved_host`.
    `predictions` and `cost` are what it has spent, what is reserved for open attempts included, but not what `unpriced`
    results cost; `model_costs` are those of prompts that have their result, by the model that their rows name. `paused`
    is why a person paused it. `uploads` is set while local files of its inputs are at Replicate, and names the last
    upload that was begun.
    """

    name: str
    id: str
    api_host: str
    created_at: float
    total: int
    generation: int
    priority: float
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    unknown_creates: int = 0
    predictions: int = 0
    cost: int = 0
    unpriced: int = 0
    outputs_lost: int = 0
    empty: int = 0
    unsaved: int = 0
    unsaved_host: str | None = None
    aborted: int = 0
    aborted_model: str | None = None
    over_budget: int = 0
    max_predictions: int | None = None
    max_cost: int | None = None
    max_in_flight: int | None = None
    paused: str | None = None
    cancel_requested: bool = False
    finished_at: float | None = None
    uploads: str | None = None
    model_costs: dict[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """How many prompts have their result."""
        return self.succeeded + self.failed + self.canceled


class SavedFile(BaseModel):
    """One output file on disk; `path` is relative to the batch's folder.

    `checked`: its bytes match the checksum of its host; None: it sent none. `warning` says what is unusual about it.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    url: str
    bytes: int
    sha256: str
    content_type: str | None = None
    checked: bool | None = None
    warning: str | None = None


class Failure(BaseModel):
    """Why a prompt has no output; `code` is Replicate's (`E005`, `PA`, an HTTP status), if any."""

    model_config = ConfigDict(frozen=True)

    kind: ErrorKind
    message: str
    code: str | None = None


class Result(BaseModel):
    """The final record of a prompt: one line of results.jsonl. Times are RFC 3339, UTC, ms; `cost` is in dollars.

    `unsaved` are URLs in the output that look like files and were not fetched; `empty`: it succeeded with no output.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    index: int
    status: Outcome
    attempts: int = 0
    prediction_id: str | None = None
    prediction_ids: tuple[str, ...] = ()
    unknown_creates: int = 0
    model: str
    version: str | None = None
    input: dict[str, Any]
    output: Any = None
    files: tuple[SavedFile, ...] = ()
    unsaved: tuple[str, ...] = ()
    empty: bool = False
    error: Failure | None = None
    metrics: dict[str, Any] = {}
    cost: float | None = None
    created_at: str | None = None
    completed_at: str | None = None
    saved_at: str | None = None

    @property
    def predictions(self) -> int:
        """How many predictions it may have cost."""
        return len(self.prediction_ids) + self.unknown_creates

    @property
    def is_unpriced(self) -> bool:
        """Whether it has predictions, and what they cost is not known."""
        return self.cost is None and self.predictions > 0


NO_WORKER = "no worker is up"
"""The reason of a batch that waits for nothing else."""


class Status(BaseModel):
    """What `status --json` prints; `eta` is in seconds, `rate_per_minute` is of the last minute, costs are dollars.

    `reasons` are what its prompts wait for, `reason` all of them in one line. `unsaved` files stayed at their URLs,
    `empty` prompts succeeded with no output; `dead_letters` are shards that do not run until `retry`; `stuck`: they are
    all that is left. `workers` are those of its `api_host`, which nobody else's pauses and notices concern.
    `model_costs` are those of prompts that have their result. `cost` is partial when that of some results is not known.
    `paused` is why a person paused this batch alone. A `forgotten` batch is known by its folder alone.
    """

    batch: str
    state: State
    reason: str | None = None
    reasons: list[str] = []
    total: int
    succeeded: int
    failed: int
    canceled: int
    in_flight: int
    waiting: int
    unknown_creates: int
    output_lost: int = 0
    empty: int = 0
    unsaved: int = 0
    unsaved_host: str | None = None
    aborted: int = 0
    over_budget: int = 0
    predictions: int = 0
    max_predictions: int | None = None
    cost: float | None = None
    cost_is_partial: bool = False
    max_cost: float | None = None
    model_costs: dict[str, float] = {}
    max_in_flight: int | None = None
    paused: str | None = None
    dead_letters: list[str] = []
    stuck: bool = False
    created_at: str
    finished_at: str | None = None
    rate_per_minute: float
    eta: float | None = None
    workers: int
    api_host: str = ""
    elsewhere: bool = Field(default=False, exclude=True)
    """Whether `api_host` differs from that of the reader's settings."""
