"""Inspects every row of a batch: its record, its files, its state in Redis and its line in results.jsonl.

Only hashes of each prompt stay in memory, so that a million of them fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.name_hashes import NameHashes
from jobs.batch_folder.prompts_copy import parse_prompt
from jobs.batch_folder.rows.result_line import result_line
from jobs.errors import StorageError
from jobs.names import name_problem
from jobs.secret_inputs import shown_input
from jobs.state.batches import Spent
from jobs.state.snapshot import Snapshot
from jobs.verify.disagreements import MOVE, RECOUNT, RECREATE, Disagreement
from jobs.verify.folder import file_faults, unnamed_files
from jobs.verify.redis import Waiting, prompt_faults
from jobs.verify.results import Lines
from jobs.verify.segments import Segments
from jobs.wire import Prompt, Result

LIMIT = 10_000
"""Disagreements after which the inspection stops."""


PROGRESS_EVERY = 1000
"""Prompts between two reports."""


class TooMany(Exception):
    """There are more than LIMIT disagreements."""


class Inspection:
    """What was found so far in a folder, and in Redis if it knows the batch.

    `read` says of a prompt's id whether the bytes of its files are to be read, too.
    """

    def __init__(self, folder: Folder, snapshot: Snapshot | None, read: Callable[[str], bool]) -> None:
        self.folder, self.snapshot, self._read = folder, snapshot, read
        self._root = str(folder.path)
        self.found: list[Disagreement] = []
        self.counts = Counter(prompts=0, results=0, files=0, bytes=0, unread=0)
        self.outcomes = Counter[str]()
        self.spent = Counter(predictions=0, cost=0)
        self.ids, self.predictions = NameHashes(), NameHashes()
        self.waiting = Waiting(snapshot) if snapshot else None
        self.results, self.errors = Lines(folder.results), Lines(folder.errors)
        self.segments = Segments(folder)

    @property
    def finished(self) -> bool:
        """As Redis says, else when every prompt has its record."""
        if self.snapshot:
            return self.snapshot.batch.finished_at is not None
        return self.counts["results"] == self.counts["prompts"]

    def report(self, disagreement: Disagreement) -> None:
        """Note a disagreement; raises TooMany."""
        if len(self.found) == LIMIT:
            raise TooMany
        self.found.append(disagreement)

    def inspect_all(self, rows: BinaryIO, progress: Callable[[str], None]) -> None:
        """Inspect each prompt in turn; `rows` is the open copy. `progress` is called with a sentence now and then."""
        for prompt in prompts_in(rows):
            self.counts["prompts"] += 1
            if self.counts["prompts"] % PROGRESS_EVERY == 0:
                progress(f"verifying {self.folder.batch}: {self.counts['prompts']:,} prompts")
            if isinstance(prompt, Prompt):
                self._inspect(prompt)
            else:
                self.report(Disagreement(what=prompt, cure="restore the file from a backup"))
        self.results.end()
        self.errors.end()

    def close(self) -> None:
        """Close what is open."""
        self.segments.close()
        self.results.close()
        self.errors.close()

    def record_of(self, prompt: Prompt) -> Result | None:
        """A prompt's record if it is readable."""
        with suppress(StorageError):
            return self.folder.read_record(prompt.id)
        return None

    def _inspect(self, prompt: Prompt) -> None:
        self.ids.add(prompt.id.lower(), prompt.index)
        record, damage = None, None
        try:
            record = self.folder.read_record(prompt.id)
        except StorageError as error:
            damage = str(error)
        line = result_line(record).encode(errors="replace") if record else b""
        failed = self.snapshot and prompt.index in self.snapshot.unsuccessful
        cure = f"`python -m jobs retry {self.folder.batch}`" if failed else RECREATE
        for what in self._faults(prompt, record, line, damage):
            self.report(Disagreement(prompt=prompt.id, what=what, cure=cure))
        if not damage:
            self._inspect_folder(prompt, record, line.decode())
        for what in prompt_faults(self.snapshot, prompt, record) if self.snapshot else ():
            self.report(Disagreement(prompt=prompt.id, what=what, cure=RECOUNT))
        self._count(prompt, record)

    def _inspect_folder(self, prompt: Prompt, record: Result | None, line: str) -> None:
        for what in unnamed_files(f"{self._root}/{prompt.id}", record):
            self.report(Disagreement(prompt=prompt.id, what=what, cure=MOVE))
        if segment := self.segments.fault(prompt, line):
            name = self.folder.batch
            cure = f"remove {segment}, then `python -m jobs results {name}` and `python -m jobs gallery {name}`"
            self.report(Disagreement(prompt=prompt.id, what=f"{segment} has another result than its record", cure=cure))

    def _faults(self, prompt: Prompt, record: Result | None, line: bytes, damage: str | None) -> Iterator[str]:
        result = self._line(prompt, record, line)
        if damage:
            yield damage
        elif record:
            yield from _differences(prompt, record)
            yield from file_faults(f"{self._root}/{prompt.id}", record, read=self._read(prompt.id))
        elif self.snapshot and prompt.index in self.snapshot.settled:
            yield "Redis has its result, and its record is missing"
        elif result and not self.snapshot and (result.status == "succeeded" or not prompt.generation):
            yield "results.jsonl has its result, and its record is missing"

    def _line(self, prompt: Prompt, record: Result | None, line: bytes) -> Result | None:
        """The result in results.jsonl, which may be of any age before a batch is finished."""
        if self.snapshot and not self.finished:
            return None
        if not record or record.status != "succeeded":
            self.errors.compare(prompt.index, record, line)
        return self.results.compare(prompt.index, record, line)

    def _count(self, prompt: Prompt, record: Result | None) -> None:
        for prediction in set(predictions_of(prompt, record, self.snapshot)):
            self.predictions.add(prediction, prompt.index)
        if record:
            self.counts["results"] += 1
            self.counts["files"] += len(record.files)
            self.counts["bytes"] += sum(file.bytes for file in record.files)
            self.counts["unread"] += 0 if self._read(prompt.id) else len(record.files)
        if not self.snapshot or not self.waiting:
            return
        if prompt.index in self.snapshot.settled:
            missing = "unknown" if prompt.index in self.snapshot.unsuccessful else "succeeded"
            self.outcomes[record.status if record else missing] += 1
            self._spend(record)
        elif prompt.index < self.snapshot.batch.total:
            self.waiting.add(prompt)

    def _spend(self, record: Result | None) -> None:
        if record:
            spent = Spent.of(record)
            self.spent.update(predictions=spent.predictions, cost=spent.cost or 0)


def prompts_in(rows: BinaryIO) -> Iterator[Prompt | str]:
    """Yield each row of a copy, or what is wrong with it."""
    rows.seek(0)
    for index, line in enumerate(rows):
        yield _prompt(index, line) or f"prompts.jsonl, line {index + 1}, is damaged"


def predictions_of(prompt: Prompt, record: Result | None, snapshot: Snapshot | None) -> Iterator[str]:
    """The predictions that serve a prompt, by its record and by the ledger."""
    yield from record.prediction_ids if record else ()
    if snapshot and (entry := snapshot.ledger.get(prompt.index)):
        yield from entry.prediction_ids


def _prompt(index: int, line: bytes) -> Prompt | None:
    try:
        prompt = parse_prompt(index, line)
        whole = line.endswith(b"\n") and not name_problem(prompt.id, 128)
    except (ValueError, TypeError):
        return None
    return prompt if whole else None


def _differences(prompt: Prompt, record: Result) -> Iterator[str]:
    row = {"id": prompt.id, "index": prompt.index, "model": prompt.model, "input": shown_input(prompt.input)}
    for name, value in row.items():
        if getattr(record, name) != value:
            yield f"its record is of another prompt: {name} is not that of the row"
