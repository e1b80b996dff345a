"""The SQLite file of one batch: a row for each prompt, and the questions that pages ask."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Literal, NamedTuple

from jobs.dashboard.index.filters import Filter

SCHEMA = 1
"""A file of another version is filled anew: it holds nothing that the folder does not."""

MOST_ANSWERS = 100
"""Answers that are remembered until something changes."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE prompts (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL, model TEXT NOT NULL, matrix TEXT NOT NULL,
  generation INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, prompt TEXT NOT NULL, seed TEXT,
  state TEXT NOT NULL DEFAULT 'waiting', kind TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  message_group TEXT NOT NULL DEFAULT '', cost INTEGER, saved_at INTEGER,
  rating INTEGER NOT NULL DEFAULT 0, starred INTEGER NOT NULL DEFAULT 0, rejected INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX by_id ON prompts (id);
CREATE INDEX by_state ON prompts (state, kind, message_group);
CREATE INDEX by_time ON prompts (saved_at) WHERE saved_at IS NOT NULL;
CREATE INDEX by_matrix ON prompts (matrix);
"""


Order = Literal["file", "newest", "best"]

_ORDERS: dict[Order, str] = {
    "file": "position",
    "newest": "saved_at DESC, position",
    "best": "starred DESC, rating DESC, rejected, position",
}


class Row(NamedTuple):
    """A row of the batch's own copy: where it is in the file, and what is looked for in it."""

    position: int
    id: str
    model: str
    matrix: str
    generation: int
    start: int
    length: int
    prompt: str
    seed: str | None


class Ending(NamedTuple):
    """How a prompt ended; `cost` is in micro-dollars, `saved_at` in Unix seconds."""

    position: int
    state: str
    kind: str = ""
    message: str = ""
    message_group: str = ""
    cost: int | None = None
    saved_at: int | None = None


class Failures(NamedTuple):
    """Failures of one kind with the same group of messages; `position` and `message` are those of one of them."""

    kind: str
    message_group: str
    prompts: int
    position: int
    message: str


class Minute(NamedTuple):
    """What ended within a span of time that begins at `start` (Unix seconds); `cost` is in micro-dollars."""

    start: int
    succeeded: int
    other: int
    cost: int


class Item(NamedTuple):
    """A prompt as lists show it, and where its line is in the batch's own copy."""

    position: int
    id: str
    matrix: str
    generation: int
    start: int
    length: int
    state: str
    saved_at: int | None
    rating: int
    starred: int
    rejected: int
    reason: str


class Store:
    """One batch's file; calls may come from any thread, one at a time is served. sqlite3.Error when it is damaged."""

    def __init__(self, path: Path, batch_id: str) -> None:
        self._lock = RLock()
        self._version, self._answers = (0, 0), dict[tuple[Any, ...], list[Any]]()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;"
        )
        if self._schema() != SCHEMA or self.fact("batch") != batch_id:
            self._create(batch_id)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def fact(self, name: str) -> str | None:
        """A remembered value."""
        row = self._one("SELECT value FROM facts WHERE name = ?", [name])
        return row and str(row[0])

    def remember(self, name: str, value: str) -> None:
        """Remember a value."""
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])

    @contextmanager
    def changing(self) -> Iterator[None]:
        """All changes of the block together, or none."""
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def put_rows(self, rows: Iterable[Row]) -> None:
        """Write rows; one of a later generation waits again."""
        names, again = ", ".join(Row._fields), "excluded.generation > prompts.generation"
        fresh = {"state": "'waiting'", "kind": "''", "message": "''", "message_group": "''", "cost": "NULL"}
        resets = ", ".join(
            f"{name} = iif({again}, {value}, {name})" for name, value in {**fresh, "saved_at": "NULL"}.items()
        )
        moved = ", ".join(f"{name} = excluded.{name}" for name in Row._fields if name != "position")
        self._many(
            f"INSERT INTO prompts ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (position) DO UPDATE SET {resets}, {moved}",
            rows,
        )

    def put_endings(self, endings: Iterable[Ending]) -> None:
        """Write how prompts ended."""
        names = [name for name in Ending._fields if name != "position"]
        changes = ", ".join(f"{name} = ?" for name in names)
        self._many(
            f"UPDATE prompts SET {changes} WHERE position = ?",
            ((*ending[1:], ending.position) for ending in endings),
        )

    def put_reviews(self, reviews: Iterable[tuple[int, bool, bool, str, str]]) -> None:
        """Write rating, star, rejection and its reason of prompts, by id, which comes last."""
        self._many("UPDATE prompts SET rating = ?, starred = ?, rejected = ?, reason = ? WHERE id = ?", reviews)

    def waiting(self) -> list[int]:
        """The positions of prompts that wait."""
        return [row[0] for row in self._all("SELECT position FROM prompts WHERE state = 'waiting' ORDER BY position")]

    def ids(self, positions: list[int]) -> dict[int, str]:
        """The ids of prompts."""
        query = f"SELECT position, id FROM prompts WHERE position IN ({','.join('?' * len(positions))})"
        return dict(self._all(query, positions))

    def counts(self, chosen: Filter) -> dict[str, int]:
        """How many prompts there are of each state, whatever state the filter names."""
        where, values = Filter(**{name: getattr(chosen, name) for name in chosen.__slots__ if name != "state"}).where()
        return dict(self._known(f"SELECT state, count(*) FROM prompts WHERE {where} GROUP BY state", values))

    def failures(self, most: int) -> list[Failures]:
        """The largest groups of failures, with an example of each."""
        query = (
            "SELECT kind, message_group, count(*), min(position), message FROM prompts "
            "WHERE state IN ('failed', 'canceled') GROUP BY kind, message_group ORDER BY 3 DESC LIMIT ?"
        )
        return [Failures(*row) for row in self._known(query, [most])]

    def models(self) -> list[tuple[str, int, int]]:
        """Each model with its prompts and the micro-dollars that they cost."""
        return self._known(
            "SELECT model, count(*), ifnull(sum(cost), 0) FROM prompts GROUP BY model ORDER BY 2 DESC", []
        )

    def minutes(self, since: int, span: int) -> list[Minute]:
        """What ended since then (Unix seconds), by spans of so many seconds."""
        query = (
            "SELECT saved_at / ? * ?, sum(state = 'succeeded'), sum(state != 'succeeded'), ifnull(sum(cost), 0) "
            "FROM prompts WHERE saved_at >= ? GROUP BY 1 ORDER BY 1"
        )
        return [Minute(*row) for row in self._known(query, [span, span, since])]

    def last_saved(self) -> int | None:
        """When the last result was saved, Unix seconds."""
        found: int | None = self._one("SELECT max(saved_at) FROM prompts", [])[0]
        return found

    def find(self, chosen: Filter, order: Order = "file", skipped: int = 0, most: int = 100) -> list[Item]:
        """The prompts that a filter shows, but for the first ones, which are skipped."""
        where, values = chosen.where()
        query = (
            f"SELECT {', '.join(Item._fields)} FROM prompts WHERE {where} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
        )
        return [Item(*row) for row in self._known(query, [*values, most, skipped])]

    def items(self, ids: Iterable[str]) -> list[Item]:
        """The prompts of these ids that there are, in the order of the ids."""
        wanted = list(ids)
        query = f"SELECT {', '.join(Item._fields)} FROM prompts WHERE id IN ({','.join('?' * len(wanted))})"
        found = {row[1]: Item(*row) for row in self._all(query, wanted)}
        return [found[one] for one in wanted if one in found]

    def positions(self, chosen: Filter) -> list[int]:
        """The positions of all prompts that a filter shows."""
        where, values = chosen.where()
        return [row[0] for row in self._all(f"SELECT position FROM prompts WHERE {where} ORDER BY 1", values)]

    def count(self, chosen: Filter) -> int:
        """How many prompts a filter shows."""
        where, values = chosen.where()
        return int(self._one(f"SELECT count(*) FROM prompts WHERE {where}", values)[0])

    def _schema(self) -> int:
        return int(self._one("PRAGMA user_version", [])[0])

    def _create(self, batch_id: str) -> None:
        with self._lock:
            for table in ("facts", "prompts"):
                self._connection.execute(f"DROP TABLE IF EXISTS {table}")
            self._connection.executescript(_TABLES)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA}")
            self.remember("batch", batch_id)

    def _known(self, query: str, values: list[Any]) -> list[Any]:
        """The rows of a question that pages ask each second; read once until something changes, by whomever."""
        with self._lock:
            version = (self._connection.total_changes, self._one("PRAGMA data_version", [])[0])
            if version != self._version or len(self._answers) >= MOST_ANSWERS:
                self._version, self._answers = version, {}
            key = (query, *values)
            if key not in self._answers:
                self._answers[key] = self._all(query, values)
            return self._answers[key]

    def _many(self, query: str, rows: Iterable[Any]) -> None:
        with self._lock:
            self._connection.executemany(query, rows)

    def _one(self, query: str, values: list[Any]) -> Any:
        with self._lock, closing(self._connection.execute(query, values)) as cursor:
            return cursor.fetchone()

    def _all(self, query: str, values: list[Any] | None = None) -> list[Any]:
        with self._lock, closing(self._connection.execute(query, values or [])) as cursor:
            return cursor.fetchall()
