"""What concerns a batch as a whole, once every prompt of it was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from jobs.verify.disagreements import MOVE, RECOUNT, Disagreement
from jobs.verify.inspection import Inspection, predictions_of, prompts_in
from jobs.verify.leftovers import missing_pages, strangers, unfinished_business
from jobs.verify.redis import batch_faults, ledger_faults, outcome_faults, spending_faults
from jobs.wire import Prompt


def batch_disagreements(seen: Inspection, rows: BinaryIO) -> Iterator[Disagreement]:
    """Look at counters, queue, ledger and what else is in the folder; `rows` is the open copy."""
    yield from _of_redis(seen)
    for what in strangers(seen.folder, seen.ids):
        yield Disagreement(what=what, cure=MOVE)
    for what in (*_ids_twice(seen, rows), *_predictions_twice(seen, rows)):
        yield Disagreement(what=what)
    if seen.finished:
        yield from _of_finished(seen)


def _of_redis(seen: Inspection) -> Iterator[Disagreement]:
    snapshot, rows = seen.snapshot, seen.counts["prompts"]
    if snapshot is None:
        return
    for what in (
        *batch_faults(snapshot, rows),
        *ledger_faults(snapshot, rows),
        *spending_faults(snapshot, seen.spent),
    ):
        yield Disagreement(what=what, cure=RECOUNT)
    if seen.waiting:
        yield from seen.waiting.faults()
    if seen.finished:
        yield from (Disagreement(what=what, cure=RECOUNT) for what in outcome_faults(snapshot, seen.outcomes))


def _of_finished(seen: Inspection) -> Iterator[Disagreement]:
    folder, name = seen.folder, seen.folder.batch
    for what in (*seen.results.faults(), *seen.errors.faults()):
        yield Disagreement(what=what, cure=f"`python -m jobs results {name}`")
    for what in missing_pages(folder, seen.counts["prompts"]):
        yield Disagreement(what=what, cure=f"`python -m jobs gallery {name}`")
    for what in unfinished_business(folder):
        yield Disagreement(what=what, cure="remove it")


def _ids_twice(seen: Inspection, rows: BinaryIO) -> Iterator[str]:
    lines: dict[str, list[str]] = {}
    for prompt in _some(rows, seen.ids.repeated()):
        lines.setdefault(prompt.id.lower(), []).append(str(prompt.index + 1))
    for prompt_id, places in lines.items():
        if len(places) > 1:
            yield f"prompts.jsonl has the id {prompt_id} in lines {' and '.join(places)}"


def _predictions_twice(seen: Inspection, rows: BinaryIO) -> Iterator[str]:
    users: dict[str, dict[str, None]] = {}
    for prompt in _some(rows, seen.predictions.repeated()):
        for prediction in predictions_of(prompt, seen.record_of(prompt), seen.snapshot):
            users.setdefault(prediction, {})[prompt.id] = None
    for prediction, ids in users.items():
        if len(ids) > 1:
            yield f"prediction {prediction} serves {' and '.join(ids)}"


def _some(rows: BinaryIO, indexes: set[int]) -> Iterator[Prompt]:
    for prompt in prompts_in(rows) if indexes else ():
        if isinstance(prompt, Prompt) and prompt.index in indexes:
            yield prompt
