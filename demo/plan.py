"""The planned outcome of each prompt of the demo, and how the actual one differs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.operations.report import count_text
from jobs.wire import ErrorKind, Outcome, Result

PROMPTS = Path(__file__).with_name("prompts.jsonl")


@dataclass(frozen=True, slots=True)
class Plan:
    """The planned outcome of a prompt, and the number of its predictions."""

    status: Outcome = "succeeded"
    kind: ErrorKind | None = None
    attempts: int = 1

    def __str__(self) -> str:
        reason = f": {self.kind}" if self.kind else ""
        return f"{self.status}{reason}, {count_text(self.attempts, 'prediction')}"


ORDINARY = Plan()
SPECIAL = {
    "fails-once-then-works": Plan(attempts=2),
    "fails-for-good": Plan("failed", "model_error"),
    "refused-by-policy": Plan("failed", "content_policy"),
}


def plan_of(prompt_id: str) -> Plan:
    """The plan of a prompt of the demo."""
    return SPECIAL.get(prompt_id, ORDINARY)


def outcome_of(result: Result) -> Plan:
    """The actual outcome of a prompt, in the words of a plan."""
    return Plan(result.status, result.error.kind if result.error else None, result.attempts)


def deviations(results: Sequence[Result], folder: Folder, created: int, expected: int) -> Iterator[str]:
    """Yield a sentence for each thing that did not go as planned: outcomes, files on disk, predictions created."""
    wanted = [prompt.id for prompt in read_copy(folder)]
    if [result.id for result in results] != wanted:
        yield f"{folder.results} has {len(results)} results for {len(wanted)} prompts"
    for result in results:
        if (outcome := outcome_of(result)) != (plan := plan_of(result.id)):
            yield f"{result.id}: planned {plan}; it was {outcome}{f': {result.error.message}' if result.error else ''}"
        yield from (f"{result.id}: {path} is not whole" for path in damaged_files(result, folder))
    if created != expected:
        yield f"{created} predictions were created, {expected} were meant"


def damaged_files(result: Result, folder: Folder) -> Iterator[str]:
    """Yield the path of each file whose bytes on disk are not those that were recorded."""
    for file in result.files:
        path = folder.path / file.path
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            yield file.path
