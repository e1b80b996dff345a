"""What a worker holds while it runs, and the work on one prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.account.account import Account
from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.input_files.reference import has_references
from jobs.notify.notifier import Notifier
from jobs.prices.price_list import PriceBook
from jobs.prices.rate_card import RateCard
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.files import without_signatures
from jobs.replicate_api.predictions import Prediction, Replicate
from jobs.secret_inputs import Masking, Secrets
from jobs.state.batches import Batches
from jobs.state.claims import Claims
from jobs.state.ledger import Ledger, Overtaken
from jobs.state.pending import PendingPrompt
from jobs.wire import SHARD_SIZE, Prompt, Shard
from worker.leases import Leases, lease_name
from worker.limits.batch_limiter import BatchConcurrencyLimit
from worker.limits.circuit_breaker import CircuitBreaker
from worker.limits.job_slots import JobSlots
from worker.limits.model_limiter import ModelLimiter
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.limits.refused_rows import RefusedRows
from worker.limits.request_gate import RequestGate
from worker.limits.wait_reporter import WaitReporter
from worker.orphans.search import OrphanSearch
from worker.outputs.folder_health import FolderHealth
from worker.outputs.saver import OutputSaver
from worker.polling.poller import Poller
from worker.timing import Timing
from worker.uploads.uploader import Uploader


@dataclass(frozen=True, slots=True)
class Context:
    """The state in arq's `ctx`: everything that processing a prompt needs, opened by the lifecycle."""

    config: Config
    redis: Redis
    account: Account
    batches: Batches
    leases: Leases
    gate: RequestGate
    replicate: Replicate
    secrets: Secrets
    claims: Claims
    poller: Poller
    orphans: OrphanSearch
    outputs: OutputSaver
    uploads: Uploader
    breaker: CircuitBreaker
    model_limiter: ModelLimiter
    batch_limiter: BatchConcurrencyLimit
    refused_rows: RefusedRows
    in_flight: PrioritySemaphore
    """Held from the create of a prediction to its end."""

    connections: PrioritySemaphore
    """Held during a create: no more than there are connections, so that an intent never waits for one."""

    waits: WaitReporter
    job_slots: JobSlots
    prices: PriceBook
    notifier: Notifier
    folders: FolderHealth
    timing: Timing

    creates: set[asyncio.Task[Any]] = field(default_factory=set)
    """The creates under way, referenced here so that none is garbage-collected."""

    short_of_budget: set[str] = field(default_factory=set)
    """Ids of batches whose budget refused a create: their prompts check it before they queue again."""

    used_up: set[tuple[str, int]] = field(default_factory=set)
    """Ids and generations of batches whose used-up budget was announced."""


def job_slots(config: Config) -> int:
    """How many shards a worker runs at once: it must not idle while the last prompts of one run."""
    return max(4 * config.max_in_flight // SHARD_SIZE, 2)


@dataclass(frozen=True, slots=True)
class Work:
    """One prompt of a shard that runs in this worker."""

    worker: Context
    shard: Shard
    prompt: Prompt

    known: PendingPrompt | None = None
    """What was read of it with its shard, when there was neither a record nor anything in a record's place."""

    score: float = 0.0
    """The virtual time of its shard in the queue."""

    limited: bool = False
    """Whether its batch limits its predictions in flight."""

    paused: bool = False
    """Whether its batch is paused: what runs is followed and saved, and nothing is created."""

    cards: Mapping[str, RateCard] = field(default_factory=dict)
    """The rate cards that its batch keeps, by models."""

    @property
    def order(self) -> float:
        """Its rank among the prompts that wait in a worker: by virtual time, then as in the file."""
        return self.score + self.prompt.index % SHARD_SIZE / 1000

    @property
    def folder(self) -> Folder:
        """The folder of the prompt's batch."""
        return _folder(self.worker.config.output_dir, self.shard.batch)

    @property
    def ledger(self) -> Ledger:
        """The prompt's entry in the ledger."""
        shard = self.shard
        return Ledger(self.worker.redis, self.worker.config.api_host, shard.batch, shard.batch_id, self.prompt.index)

    def mask(self, prediction: Prediction) -> Prediction:
        """The prediction without the prompt's secrets and the signatures of its files' URLs.

        Those in its output are masked when it is saved: its URLs must stay as they are until then.
        """
        raw = self.worker.secrets.mask_prediction(prediction.raw, self.prompt.input)
        if has_references(self.prompt.input):
            raw = without_signatures({key: value for key, value in raw.items() if key != "output"})
        return prediction if raw is prediction.raw else replace(prediction, raw={**raw, "output": prediction.output})

    @property
    def masking(self) -> Masking:
        """What takes the prompt's secrets out of all that is shown or kept."""
        return Masking(self.worker.secrets, self.prompt.input)

    def check_lease(self) -> None:
        """Raise Overtaken when this worker stalled for so long that another may have acquired the shard."""
        if not self.worker.leases.is_valid(lease_name(self.shard.job_id)):
            raise Overtaken(f"{self.name}: this worker stalled past its lease")

    @property
    def name(self) -> str:
        """The prompt's name in logs."""
        return f"{self.shard.batch}/{self.prompt.id}"


@lru_cache(maxsize=64)
def _folder(output_dir: Path, batch: str) -> Folder:
    """One for all prompts of a batch: a path is costly to make, and each prompt needs it ten times."""
    return Folder(output_dir, batch)
