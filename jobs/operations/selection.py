"""Which prompts of a batch an operation is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import CopiedRow, model_of, read_rows
from jobs.errors import InputError
from jobs.message_groups import message_group
from jobs.state.batches import Bits
from jobs.wire import Outcome, Result

SHOWN = 5
"""Most ids that an error names."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Prompts that have all of this; what is empty leaves none out.

    A prompt has one of the `ids`, of the `indexes`, of the `models` (with or without its version) and, if it did not
    succeed, of the `kinds` of errors and of the `statuses`. `message` is a part of its error's message, or its group.
    `other_kinds` leaves out failures of these kinds, and nothing else.
    """

    ids: frozenset[str] = frozenset()
    indexes: frozenset[int] | None = None
    models: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    statuses: frozenset[Outcome] = frozenset()
    message: str = ""
    other_kinds: frozenset[str] = frozenset()

    @property
    def needs_results(self) -> bool:
        """Whether only prompts with a result can be selected."""
        return bool(self.kinds or self.statuses or self.message)

    def resolve(self, folder: Folder, unsuccessful: Bits) -> Bits:
        """The indexes of these prompts; InputError for an id that the batch does not have, StorageError."""
        indexes, unknown = list[int](), set(self.ids)
        for row in read_rows(folder):
            unknown.discard(row.id)
            if self._has_row(row) and self._fits(folder, row, unsuccessful):
                indexes.append(row.index)
        if unknown:
            raise InputError(f"batch {folder.batch!r} has no prompt {_named(unknown)}; nothing was done")
        return Bits.of(indexes)

    def _has_row(self, row: CopiedRow) -> bool:
        if (self.indexes is not None and row.index not in self.indexes) or (self.ids and row.id not in self.ids):
            return False
        return not self.models or not self.models.isdisjoint(((model := model_of(row.text)), model.partition(":")[0]))

    def _fits(self, folder: Folder, row: CopiedRow, unsuccessful: Bits) -> bool:
        if not self.needs_results and not self.other_kinds:
            return True
        record = folder.last_record(row.id, row.generation) if row.index in unsuccessful else None
        if record is None:
            return not self.needs_results
        return self.has_failure(record) and not (record.error and record.error.kind in self.other_kinds)

    def has_failure(self, result: Result) -> bool:
        """Whether a result is one of these, by how it ended."""
        kind, message = (result.error.kind, result.error.message) if result.error else ("", "")
        if (self.kinds and kind not in self.kinds) or (self.statuses and result.status not in self.statuses):
            return False
        return self.message.lower() in message.lower() or self.message == message_group(message)


def _named(ids: Iterable[str]) -> str:
    names = sorted(ids)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more
