"""Which prompts of a batch a page shows: read from its address, written into it, and asked of SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args
from urllib.parse import urlencode

from jobs.wire import Outcome

State = Outcome | Literal["waiting"]
Mark = Literal["starred", "rejected", "rated", "unrated"]

STATES: tuple[str, ...] = ("waiting", *get_args(Outcome))
MARKS: tuple[str, ...] = get_args(Mark)
LONGEST_QUERY = 200
_SEARCHED = "id || char(10) || prompt || char(10) || ifnull(seed, '') || char(10) || model || char(10) || message"


@dataclass(frozen=True, slots=True)
class Filter:
    """What prompts have in common; an empty value does not count.

    `group` is a group of messages (`jobs.message_groups`), `matrix` the row that variants were made of, `rating` the
    lowest one; `text` is looked for in id, prompt, seed, model and message.
    """

    text: str = ""
    state: str = ""
    kind: str = ""
    group: str = ""
    model: str = ""
    matrix: str = ""
    mark: str = ""
    rating: int = 0

    @classmethod
    def read(cls, values: Mapping[str, str]) -> Self:
        """Read it from a page's address; what is not known there is left out."""
        rating = values.get("rating", "")
        return cls(
            text=values.get("text", "").strip()[:LONGEST_QUERY],
            state=value if (value := values.get("state", "")) in STATES else "",
            kind=values.get("kind", ""),
            group=values.get("group", ""),
            model=values.get("model", ""),
            matrix=values.get("matrix", ""),
            mark=value if (value := values.get("mark", "")) in MARKS else "",
            rating=int(rating) if rating in ("1", "2", "3", "4", "5") else 0,
        )

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return self != Filter()

    def but(self, **changes: Any) -> str:
        """The query of an address that shows the same but for these values."""
        return replace(self, **changes).query

    @property
    def query(self) -> str:
        """The query of an address that shows these prompts."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return urlencode([(name, value) for name, value in values if value])

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL with its parameters."""
        conditions = list(self._conditions())
        text = " AND ".join(condition for condition, _ in conditions)
        return text or "TRUE", [value for _, values in conditions for value in values]

    def _conditions(self) -> Iterator[tuple[str, list[Any]]]:
        for word in self.text.split():
            yield f"{_SEARCHED} LIKE ? ESCAPE '\\'", [f"%{_escaped(word)}%"]
        columns = {"state": "state", "kind": "kind", "group": "message_group", "model": "model", "matrix": "matrix"}
        for name, column in columns.items():
            if value := getattr(self, name):
                yield f"{column} = ?", [value]
        if self.rating:
            yield "rating >= ?", [self.rating]
        if self.mark:
            yield _MARKED[self.mark], []


_MARKED = {
    "starred": "starred",
    "rejected": "rejected",
    "rated": "rating > 0",
    "unrated": "rating = 0 AND NOT rejected",
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
