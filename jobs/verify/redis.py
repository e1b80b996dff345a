"""Redis against itself and against the rows of the batch: counters, bitmaps, ledger, queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from jobs.state.batches import Bits
from jobs.state.snapshot import Snapshot
from jobs.verify.disagreements import Disagreement
from jobs.wire import Prompt, Result


@dataclass(slots=True)
class Waiting:
    """Unsettled prompts by the job that should be queued for them: how many, and the id of the first."""

    snapshot: Snapshot
    _lost: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, prompt: Prompt) -> None:
        """Check that the job of a prompt without a result is queued."""
        job = self.snapshot.job_of(prompt.index, prompt.generation)
        if not self.snapshot.jobs.get(job) and job not in self.snapshot.dead:
            first, count = self._lost.get(job, (prompt.id, 0))
            self._lost[job] = first, count + 1

    def faults(self) -> Iterator[Disagreement]:
        """Yield one disagreement for each job that is missing, or has lost its payload."""
        cure = f"`python -m jobs retry {self.snapshot.batch.name}`"
        for job, (first, count) in self._lost.items():
            whose = f"{count} prompt{'s have' if count > 1 else ' has'} no result"
            where = "is in the queue without its payload" if job in self.snapshot.jobs else "is not in the queue"
            yield Disagreement(prompt=first, what=f"{whose}, and job {job} {where}", cure=cure)


def prompt_faults(snapshot: Snapshot, prompt: Prompt, record: Result | None) -> Iterator[str]:
    """Yield where Redis and a record disagree on one prompt."""
    settled = prompt.index in snapshot.settled
    failed = prompt.index in snapshot.unsuccessful
    if settled and record and failed == (record.status == "succeeded"):
        yield f"Redis counts it as {'not succeeded' if failed else 'succeeded'}, its record says {record.status}"
    if failed and not settled:
        yield "Redis has it as not succeeded, and as not settled"
    if settled and prompt.index in snapshot.ledger:
        yield "it has its result, and still has an entry in the ledger"


def batch_faults(snapshot: Snapshot, rows: int) -> Iterator[str]:
    """Yield where Redis disagrees with itself, or with the number of rows."""
    batch, settled, failed = snapshot.batch, len(snapshot.settled), len(snapshot.unsuccessful)
    counters = f"{batch.succeeded} succeeded, {batch.failed} failed and {batch.canceled} canceled"
    if (batch.succeeded, batch.failed + batch.canceled) != (settled - failed, failed):
        yield f"Redis counts {counters}, its bitmaps have {settled - failed} succeeded and {failed} that did not"
    if batch.total != rows:
        yield f"Redis counts {batch.total} prompts, prompts.jsonl has {rows}"
    if beyond := _beyond(snapshot.settled, rows):
        yield f"Redis has results of {beyond} prompts that are not in prompts.jsonl"
    if batch.finished_at and batch.settled < batch.total:
        yield f"Redis says finished, and only {batch.settled} of {batch.total} prompts have their result"
    if not batch.finished_at and batch.settled >= batch.total and not snapshot.jobs and not snapshot.dead:
        yield "all prompts have their result, and no job in the queue will finish the batch: `retry` it, that adds one"


def ledger_faults(snapshot: Snapshot, rows: int) -> Iterator[str]:
    """Yield what is wrong in the ledger, except entries of prompts that have their result."""
    for index in sorted(index for index in snapshot.ledger if index >= rows):
        yield f"the ledger has an entry of prompt {index}, which is not in prompts.jsonl"
    for name in snapshot.unreadable:
        yield f"the ledger's entry {name!r} is not readable"
    opened = sum(1 for entry in snapshot.ledger.values() if entry.nonce)
    if snapshot.reservations is not None and snapshot.reservations != opened:
        yield f"Redis counts {snapshot.reservations} open attempts, its ledger has {opened}"


def outcome_faults(snapshot: Snapshot, outcomes: Counter[str]) -> Iterator[str]:
    """Yield where failed and canceled are counted otherwise than recorded; `unknown` ones may be either."""
    batch = snapshot.batch
    for outcome, counted in (("failed", batch.failed), ("canceled", batch.canceled)):
        if not outcomes[outcome] <= counted <= outcomes[outcome] + outcomes["unknown"]:
            yield f"Redis counts {counted} {outcome}, the records {outcomes[outcome]}"


def _beyond(bits: Bits, rows: int) -> int:
    """How many bits are set from `rows` on."""
    return sum(index in bits for index in range(rows, len(bits.data) * 8))


def spending_faults(snapshot: Snapshot, spent: Counter[str]) -> Iterator[str]:
    """Yield what the counts of the budget lack of the records; earlier tries may add to the counts."""
    batch = snapshot.batch
    if batch.predictions < spent["predictions"]:
        yield f"Redis counts {batch.predictions} predictions, the records name {spent['predictions']}"
    if batch.cost < spent["cost"]:
        yield f"Redis counts {batch.cost / 1e6:.6f} dollars, the records {spent['cost'] / 1e6:.6f}"
