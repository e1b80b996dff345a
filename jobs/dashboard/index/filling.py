"""Folder and bitmap → store: reads only what has changed since the last time."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import BinaryIO, NamedTuple

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery_items import prompt_text
from jobs.batch_folder.prompts_copy import parse_prompt
from jobs.batch_folder.reviews import read_reviews
from jobs.dashboard.index.store import Ending, Row, Store
from jobs.errors import DamagedRecord, StorageError
from jobs.message_groups import message_group
from jobs.prices.money import MICRO
from jobs.secret_inputs import shown_input
from jobs.state.batches import Bits
from jobs.wire import Result

BUDGET = 0.5
"""Seconds that a call reads rows or records for, so that a page shows how it gets on."""

COMPARE_EVERY = 30.0
"""Seconds after which what still waits is compared as a whole: on a network's disk a record may show late."""

PROMPT_KEPT = 2_000
MESSAGE_KEPT = 1_000
VARIANT = "--"
"""What separates the id of a row from the values of its variant."""

CHUNK = 500


class RowsRead(NamedTuple):
    """How much of a copy has been read; `mark` tells it from the one that replaces it."""

    mark: str
    rows: int = 0
    bytes: int = 0


class Filling:
    """Keeps one store up to date; what a call has no time for, the next one does."""

    def __init__(self, store: Store, folder: Folder, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._folder, self._clock = store, folder, clock
        self._todo = deque[int]()
        self._seen = Bits(b"")
        self._compared_at = -COMPARE_EVERY
        self._folder_changed_at: int | None = None
        self._rows_read = RowsRead("")

    def fill(self, settled: Bits | None) -> bool:
        """Read what is new; False when there is more. StorageError.

        `settled` is the batch's bitmap; None when Redis has forgotten the batch: then the records decide.
        """
        now = self._clock()
        if not self._fill_rows(now + BUDGET):
            return False
        fill_reviews(self._store, self._folder)
        if now - self._compared_at >= COMPARE_EVERY:
            self._compared_at = now
            self._todo = deque(self._unread(settled))
        elif settled:
            self._todo.extend(_new_bits(self._seen, settled))
        self._seen = settled or self._seen
        while self._todo and self._clock() - now < BUDGET:
            self._read([self._todo.popleft() for _ in range(min(CHUNK, len(self._todo)))])
        return not self._todo

    def _unread(self, settled: Bits | None) -> list[int]:
        """What waits in the store and has a result; without a bitmap all that waits, when the folder has changed."""
        if settled is not None:
            return [at for at in self._store.waiting() if at in settled]
        with storing(self._folder.path):
            changed_at = self._folder.path.stat().st_mtime_ns  # a commit renames a prompt's folder into it
        if changed_at == self._folder_changed_at:
            return []
        self._folder_changed_at = changed_at
        return self._store.waiting()

    def _fill_rows(self, until: float) -> bool:
        """Read the batch's own copy, if it is not as it was: it is only ever replaced as a whole. False: in part."""
        path = self._folder.prompts
        try:
            with path.open("rb") as lines:
                seen = os.fstat(lines.fileno())
                mark = f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns}"
                return self._store.fact("prompts") == mark or self._read_rows(lines, mark, until)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}", path) from error

    def _read_rows(self, lines: BinaryIO, mark: str, until: float) -> bool:
        read = self._rows_read if self._rows_read.mark == mark else RowsRead(mark)
        lines.seek(read.bytes)
        while True:
            chunk = list(islice(lines, CHUNK))
            is_all = len(chunk) < CHUNK
            with self._store.changing():
                self._store.put_rows(_rows(chunk, read))
                if is_all:
                    self._store.remember("prompts", mark)
            self._rows_read = read = RowsRead(mark, read.rows + len(chunk), read.bytes + sum(map(len, chunk)))
            if is_all or self._clock() >= until:
                self._compared_at = -COMPARE_EVERY
                return is_all

    def _read(self, positions: list[int]) -> None:
        ids = self._store.ids(positions)
        endings = (_ending(self._folder, position, ids[position]) for position in positions if position in ids)
        with self._store.changing():
            self._store.put_endings([ending for ending in endings if ending])


def _new_bits(old: Bits, new: Bits) -> Iterator[int]:
    """The positions that are set in `new` only."""
    before = old.data[: len(new.data)].ljust(len(new.data), b"\0")
    changed = int.from_bytes(new.data) & ~int.from_bytes(before)
    for number, byte in enumerate(changed.to_bytes(len(new.data))):
        if byte:
            yield from (number * 8 + bit for bit in range(8) if byte & (0x80 >> bit))


def fill_reviews(store: Store, folder: Folder) -> None:
    """Read the reviews that were added."""
    try:
        seen = folder.reviews.stat()
    except OSError:
        return
    inode, _, end = (store.fact("reviews") or "").partition(" ")
    start = int(end) if inode == str(seen.st_ino) and int(end) <= seen.st_size else 0
    if start == seen.st_size:
        return
    with storing(folder.reviews):
        found = list(read_reviews(folder, start))
    with store.changing():
        store.put_reviews((one.rating, one.starred, one.rejected, one.reason, one.id) for one, _ in found)
        store.remember("reviews", f"{seen.st_ino} {found[-1][1] if found else start}")


def _rows(lines: Iterable[bytes], read: RowsRead) -> Iterator[Row]:
    start = read.bytes
    for position, line in enumerate(lines, read.rows):
        try:
            prompt = parse_prompt(position, line)
        except ValueError:
            prompt = None
        if prompt:
            values = shown_input(prompt.input)
            seed = values.get("seed")
            yield Row(
                position,
                prompt.id,
                prompt.model,
                prompt.id.partition(VARIANT)[0],
                prompt.generation,
                start,
                len(line),
                _storable(prompt_text(values)[:PROMPT_KEPT]),
                None if seed is None else _storable(str(seed)[:PROMPT_KEPT]),
            )
        start += len(line)


def _ending(folder: Folder, position: int, prompt_id: str) -> Ending | None:
    """How a prompt ended, None when it has no record yet; a damaged one is a failure that says so."""
    try:
        result = folder.read_record(prompt_id)
    except DamagedRecord as error:
        return Ending(position, "failed", "internal", str(error), message_group(str(error)))
    except StorageError:
        return None
    return _ending_of(position, result) if result else None


def _ending_of(position: int, result: Result) -> Ending:
    message = _storable(result.error.message) if result.error else ""
    return Ending(
        position,
        result.status,
        result.error.kind if result.error else "",
        message[:MESSAGE_KEPT],
        message_group(message),
        None if result.cost is None else round(result.cost * MICRO),
        _seconds(result.saved_at),
    )


def _seconds(moment: str | None) -> int | None:
    try:
        return int(datetime.fromisoformat(moment).timestamp()) if moment else None
    except ValueError:
        return None


def _storable(text: str) -> str:
    """A text that SQLite takes: JSON may hold half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
